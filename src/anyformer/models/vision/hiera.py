"""Hiera: plain blocks in a pyramid, attention in mask units first and everywhere later, and queries pooled between.

Ryali et al. 2023, arXiv:2306.00989, table 1. Mask unit attention is attention inside windows that never shift and know
no positions; the units stay the same piece of the image while tokens are pooled, so their side halves from stage to
stage. The search space of TurboViT (arXiv:2308.11421). The "abswin" variants are timm's, with the positions of
Bolya et al. 2023, arXiv:2311.05613.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("turbovit",)
NORM = Spec("layernorm", eps=1e-6)


def hiera(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    unit: int = 8,
    local: int = 2,
    ratio: float = 4.0,
    scale: float | None = None,
    shortcut: str = "project",
    position: Spec = Spec("learned"),
    embed: Spec = Spec("patch", size=7, stride=4, padding=3),
    image_size: int = 224,
) -> Spec:
    """A Hiera.

    Args:
        dims, depths, heads: of each stage.
        unit: side of a mask unit in the first stage's tokens; images are made of whole units.
        local: the first so many stages attend inside mask units, the others everywhere. The block that opens a stage
            attends as the stage before.
        ratio: hidden channels of channel mixers per channel.
        scale: where LayerScale starts; None for none.
        shortcut: how the stream changes its channels, see `q_pool`.
        position: absolute positions of the first stage's tokens.
        embed: from image to tokens.
        image_size: pixels along each axis.
    """
    shared = {
        "ffn": Spec("mlp", ratio=ratio),
        "norm": NORM,
        "residual": Spec("add") if scale is None else Spec("layer_scale", init=scale),
    }

    def stage(i: int) -> Spec:
        mixer = Spec("attention", heads=heads[i])
        if i < local:
            mixer = Spec("window", heads=heads[i], window=unit // 2**i, distance=None, rest="refuse")
        block = Spec("prenorm", mixer=mixer, **shared)
        if i == 0:
            return Spec("stage", dim=dims[i], depth=depths[i], block=block, position=position)
        window = unit // 2 ** (i - 1) if i <= local else None
        opening = Spec("q_pool", heads=heads[i], window=window, shortcut=shortcut, **shared)
        return Spec("q_pool_stage", dim=dims[i], depth=depths[i], block=block, downsample=opening)

    return Spec(
        "pyramid",
        embed=embed,
        stages=[stage(i) for i in range(len(dims))],
        norm=None,
        head=Spec("classifier", norm=NORM),
        image_size=image_size,
    )


def doubled(first: int, stages: int = 4) -> tuple[int, ...]:
    """A number that doubles from stage to stage."""
    return tuple(first * 2**i for i in range(stages))


SMALL, BASE, LARGE = (1, 2, 11, 2), (2, 3, 16, 3), (2, 6, 36, 4)

VARIANTS = {
    "hiera_tiny": hiera(doubled(96), (1, 2, 7, 2), doubled(1)),
    "hiera_small": hiera(doubled(96), SMALL, doubled(1)),
    "hiera_base": hiera(doubled(96), BASE, doubled(1)),
    "hiera_base_plus": hiera(doubled(112), BASE, doubled(2)),
    "hiera_large": hiera(doubled(144), LARGE, doubled(2)),
    "hiera_huge": hiera(doubled(256), LARGE, doubled(4)),
    "hiera_small_abswin": hiera(
        doubled(96), SMALL, doubled(1), scale=1e-5, shortcut="pools", image_size=256,
        position=Spec("absolute_window", window=8, coarse=16),
    ),
    "hiera_base_abswin": hiera(
        doubled(96), BASE, doubled(1), scale=1e-5, image_size=256,
        position=Spec("absolute_window", window=8, coarse=14),
    ),
    # TurboViT publishes no table of its layers. This is a point of its space, ours, at what the paper reports: at most
    # 12.7 million parameters and 2.2 billion multiply-adds, and fewer channels in the second stage than in the first.
    "turbovit": hiera((80, 64, 240, 480), (1, 2, 9, 2), (1, 1, 4, 8)),
    # Ours, for images of 8 to 64 pixels (sides that are multiples of 4) and for tests.
    "hiera_micro": hiera(
        (32, 64), (2, 3), (2, 4), unit=2, local=1, ratio=2.0, embed=Spec("patch", size=2), image_size=8
    ).set(init="fan_in"),
}  # fmt: skip
