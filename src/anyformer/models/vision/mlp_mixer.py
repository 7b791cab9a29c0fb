"""MLP-Mixer: one MLP over the patches and one over the channels, in turn.

Tolstikhin et al. 2021, arXiv:2105.01601, table 1.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("mlp_mixer",)

NORM = Spec("layernorm", eps=1e-6)


def mixer(
    dim: int,
    depth: int,
    patch: int,
    *,
    tokens: float = 0.5,
    channels: float = 4.0,
    image_size: int = 224,
) -> Spec:
    """A Mixer; `tokens` and `channels` are the hidden units of its two MLPs per channel."""
    block = Spec(
        "prenorm",
        mixer=Spec("token_mlp", ratio=tokens, mlp=Spec("mlp")),
        ffn=Spec("mlp", ratio=channels),
        norm=NORM,
    )
    embed = Spec("patch", size=patch, rest="refuse")
    return Spec("isotropic", dim=dim, depth=depth, embed=embed, block=block, norm=NORM, image_size=image_size)


SIZES = {  # dim, depth, patches
    "s": (512, 8, (32, 16)),
    "b": (768, 12, (32, 16)),
    "l": (1024, 24, (32, 16)),
    "h": (1280, 32, (14,)),
}

VARIANTS = {
    f"mixer_{size}{patch}": mixer(dim, depth, patch)
    for size, (dim, depth, patches) in SIZES.items()
    for patch in patches
}
# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["mixer_micro"] = mixer(64, 4, 2, tokens=1.0, channels=2.0, image_size=8).set(init="fan_in")
