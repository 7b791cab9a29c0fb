"""gMixer: MLP-Mixer with gated MLPs over patches and channels, as timm publishes it.

Tolstikhin et al. 2021, arXiv:2105.01601, with the gates of Shazeer 2020, arXiv:2002.05202.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("mlp_mixer",)

NORM = Spec("layernorm", eps=1e-6)


def gmixer(
    dim: int, depth: int, patch: int, *, tokens: float = 0.5, channels: float = 2.0, image_size: int = 224
) -> Spec:
    """A gMixer; `tokens` and `channels` are the gated hidden units of its two MLPs per channel."""
    block = Spec(
        "prenorm",
        mixer=Spec("token_mlp", ratio=tokens, mlp=Spec("gated_mlp", bias=True)),
        ffn=Spec("gated_mlp", ratio=channels, bias=True),
        norm=NORM,
    )
    embed = Spec("patch", size=patch, rest="refuse")
    return Spec("isotropic", dim=dim, depth=depth, embed=embed, block=block, norm=NORM, image_size=image_size)


VARIANTS = {
    "gmixer_12": gmixer(384, 12, 16),
    "gmixer_24": gmixer(384, 24, 16),
    # Ours, for images of 8 to 32 pixels and for tests.
    "gmixer_micro": gmixer(64, 4, 2, channels=1.5, image_size=8).set(init="fan_in"),
}
