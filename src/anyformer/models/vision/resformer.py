"""ResFormer: a ViT whose positions are convolutions, so that it serves any image size; trained at several.

Tian et al. 2022, arXiv:2212.00776, section 3 and table 1. The published models are trained by `MultiResolution`
(`methods/augmentation/multi_resolution.py`).
"""

from __future__ import annotations

from typing import Literal

from anyformer.core.spec import Spec

PAPERS = ("resformer",)
NORM = Spec("layernorm", eps=1e-6)


def resformer(
    dim: int,
    depth: int,
    heads: int,
    *,
    patch: int = 16,
    ratio: float = 4.0,
    pool: Literal["class", "mean"] = "class",
    image_size: int = 224,
) -> Spec:
    """A ResFormer; an image is made of whole patches. `pool` is what the head reads, a class token or the mean."""
    classed = pool == "class"
    block = Spec(
        "class_prenorm" if classed else "prenorm",
        mixer=Spec("local_position", heads=heads),
        ffn=Spec("mlp", ratio=ratio),
        norm=NORM,
    )
    stage = Spec(
        "class_stage" if classed else "stage", dim=dim, depth=depth, block=block, position=Spec("global_position")
    )
    return Spec(
        "pyramid",
        embed=Spec("patch", size=patch, rest="refuse"),
        stages=[stage],
        norm=NORM,
        head=Spec("classifier", pool=Spec(pool)),
        image_size=image_size,
    )


VARIANTS = {
    "resformer_tiny": resformer(192, 12, 3),
    "resformer_small": resformer(384, 12, 6),
    "resformer_base": resformer(768, 12, 12),
    # Ours, for images of 8 to 64 pixels and for tests: without a class token, so that any mixer fits.
    "resformer_micro": resformer(64, 4, 4, patch=2, ratio=2.0, pool="mean", image_size=8).set(init="fan_in"),
}
