"""PPMA: RMT's pyramid with attention that fades along L-shaped paths, at rates that the tokens choose.

Zhao et al. 2025, arXiv:2506.15940, section 4 and table 1; depths and widths as in the authors' repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.core.spec import Spec
from anyformer.models.vision.rmt import HEADS, STEM, WIDTHS, rmt

PAPERS = ("ppma",)


def ppma(
    dims: Sequence[int], depths: Sequence[int], heads: Sequence[int], *, separable: int = 3, **options: Any
) -> Spec:
    """A PPMA: the first so many stages attend along rows and columns, the others to the whole map.

    `options` are those of `rmt`.
    """
    spec = rmt(dims, depths, heads, **options)

    def mixing(i: int, stage: Spec) -> Spec:
        mixer = Spec("criss_cross_polyline" if i < separable else "polyline", heads=heads[i])
        return stage.set(block=stage["block"].set(mixer=mixer))

    return spec.set(stages=[mixing(i, stage) for i, stage in enumerate(spec["stages"])])


VARIANTS = {
    "ppma_tiny": ppma(WIDTHS, (2, 2, 8, 2), HEADS, ratios=(3.0,) * 4, separable=2),
    "ppma_small": ppma(WIDTHS, (3, 4, 18, 4), HEADS),
    "ppma_base": ppma((80, 160, 320, 512), (4, 8, 25, 8), (5, 5, 10, 16), scaled=(2, 3)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "ppma_micro": ppma(
        (32, 64), (2, 2), (2, 4), ratios=(2.0, 2.0), separable=1, spans=(4, 4),
        embed=STEM.set(widths=(32,), strides=(2, 1)), hidden=128, image_size=8,
    ).set(init="fan_in"),
}  # fmt: skip
