"""MedViT V2: local blocks of neighborhood attention and convolutions, global ones with KANs, in a pyramid.

Manzari et al. 2025, arXiv:2502.13693, section 3 and table 1. The published variants have the sizes of the authors' code
and what its weights were trained with: neighbours without dilation, maps read as `channel_major` says, and KANs without
their smooth part. `medvit_v2_micro` is as the paper's equations have it, dilated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

from anyformer.core.spec import Spec

PAPERS = ("medvit_v2",)
NORM = Spec("batchnorm")


def stem(dim: int) -> Spec:
    """Next-ViT's four 3x3 convolutions (arXiv:2207.05501, section 3.5); a linear map follows where `dim` is not 64."""
    convolutions = Spec("conv_stem", widths=(64, 32, 64), strides=(2, 1, 1, 2), out_act=Spec("relu"), bias=False)
    if dim == 64:
        return convolutions
    return convolutions.set(
        widths=(64, 32, 64, 64), kernels=(3, 3, 3, 3, 1), strides=(2, 1, 1, 2, 1), out_act=None
    )  # fmt: skip


def medvit_v2(
    dims: Sequence[int],
    depths: Sequence[int],
    *,
    patterns: Sequence[str] = ("l", "lg", "llg", "g"),
    reductions: Sequence[int] = (8, 4, 2, 1),
    kernels: Sequence[int] = (7, 3, 3, 3),
    neighborhood: Spec = Spec("channel_major_neighborhood", kernel=7, rest="pad"),
    dilations: Sequence[int] = (1, 1, 1, 1),
    kan: Spec = Spec("channel_major_kan", base=None),
    embed: Spec | None = None,
    gate: int | None = None,
    head_dim: int = 32,
    image_size: int = 224,
) -> Spec:
    """Stages of local and global blocks by their `patterns`, which are repeated; `kernels` are the convolutions'."""

    def local(i: int) -> Spec:
        return Spec(
            "prenorm",
            mixer=neighborhood.set(heads=dims[i] // head_dim, dilation=dilations[i]),
            ffn=Spec("locality", ratio=3.0, kernel=kernels[i], gate=gate),
            norm=NORM,
        )

    def whole(i: int, inputs: int) -> Spec:
        return Spec(
            "global_perception",
            inputs=inputs,
            unit=head_dim,
            mixer=Spec("run_reduction", reduction=reductions[i]),
            ffn=kan,
            norm=NORM,
        )

    def stage(i: int) -> Spec:
        kinds = list(islice(cycle(patterns[i]), depths[i]))
        # A global block brings channels to the stage's width itself where it comes first.
        first = dims[i - 1] if kinds[0] == "g" else dims[i]
        blocks = [local(i) if kind == "l" else whole(i, dims[i] if n else first) for n, kind in enumerate(kinds)]
        downsample = Spec("average", norm=None if kinds[0] == "g" else NORM)
        return Spec("stage", dim=dims[i], depth=depths[i], block=blocks, downsample=downsample if i else None)

    embed = stem(dims[0]) if embed is None else embed
    return Spec("pyramid", embed=embed, stages=[stage(i) for i in range(len(dims))], norm=NORM, image_size=image_size)


DEPTHS = (2, 2, 6, 2)

VARIANTS = {
    "medvit_v2_tiny": medvit_v2((64, 128, 192, 384), (2, 2, 6, 1)),
    "medvit_v2_small": medvit_v2((64, 128, 256, 512), DEPTHS),
    "medvit_v2_base": medvit_v2((96, 192, 384, 768), DEPTHS),
    "medvit_v2_large": medvit_v2((96, 256, 512, 1024), DEPTHS),
    # Ours, for images of 8 to 64 pixels and for tests.
    "medvit_v2_micro": medvit_v2(
        (32, 64),
        (2, 2),
        patterns=("l", "lg"),
        reductions=(2, 1),
        kernels=(3, 3),
        neighborhood=Spec("neighborhood", kernel=3, rest="pad"),
        dilations=(2, 1),
        kan=Spec("kan"),
        embed=Spec("conv_stem", widths=(), strides=(1,), out_act=Spec("relu"), bias=False),
        gate=16,
        head_dim=16,
        image_size=8,
    ).set(init="fan_in"),
}
