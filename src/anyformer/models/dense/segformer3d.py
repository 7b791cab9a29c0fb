"""SegFormer3D: SegFormer over volumes, from overlapping 3D patches to a class for every voxel.

Perera et al. 2024, arXiv:2404.10156, section 3 and table 1. Volumes have sides that are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.models.dense.segformer import HEADS, mix_transformer

PAPERS = ("segformer3d",)


def segformer3d(
    dims: Sequence[int] = (32, 64, 160, 256),
    depths: Sequence[int] = (2, 2, 2, 2),
    heads: Sequence[int] = HEADS,
    *,
    reductions: Sequence[int] = (4, 2, 1, 1),
    patch: int = 4,
    ratio: float = 4.0,
    dim: int = 256,
    side: int = 128,
    in_channels: int = 4,
    num_classes: int = 3,
) -> Spec:
    """A SegFormer3D; `dim` is the width of its decoder, `side` that of the volumes it is built for."""
    size = (side,) * 3
    backbone = mix_transformer(
        dims,
        depths,
        heads,
        reductions=reductions,
        patch=patch,
        ratio=ratio,
        hidden_norm=Spec("batchnorm"),
        eps=1e-5,
        image_size=size,
    )
    return Spec(
        "segmenter",
        backbone=backbone,
        head=Spec("mlp_decoder", dim=dim, norm_levels=Spec("layernorm")),
        norm=None,
        multiple=patch * 2 ** (len(dims) - 1),
        rest="refuse",
        image_size=size,
        in_channels=in_channels,
        num_classes=num_classes,
    )


VARIANTS = {
    # BraTS: four kinds of scan, three overlapping tumour regions.
    "segformer3d": segformer3d(),
    # Ours, for volumes of 16 to 32 voxels a side and for tests.
    "segformer3d_micro": segformer3d(
        (16, 32),
        (1, 1),
        (1, 2),
        reductions=(2, 1),
        patch=2,
        ratio=2.0,
        dim=32,
        side=16,
        in_channels=1,
        num_classes=3,
    ).set(init="fan_in"),
}
