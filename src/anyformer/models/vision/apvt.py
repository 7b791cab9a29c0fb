"""APVT: PVT's pyramid with its encoders split into groups of channels that are merged again.

Ju et al. 2022, arXiv:2203.00960. There is no public code, and the abstract fixes neither the groups nor the sizes: here
there are four groups, merged by a linear layer at the end of attention, in PVT's sizes, with heads that the groups
divide. The 22.9 million parameters that are reported for it on CIFAR-10 are those of none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from anyformer.core.spec import Spec
from anyformer.models.vision.pvt import DIMS, pvt

PAPERS = ("apvt",)


def apvt(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    groups: int = 4,
    merge: Literal["linear", "concat"] = "linear",
    **options: Any,
) -> Spec:
    """An APVT: `pvt`, whose options are the others, with `groups` groups in every block."""
    spec = pvt(dims, depths, heads, **options)

    def grouped(stage: Spec) -> Spec:
        block = stage["block"]
        mixer = Spec("group_reduction", groups=groups, merge=merge, **block["mixer"].options)
        return stage.set(block=block.set(mixer=mixer, ffn=Spec("group_mlp", groups=groups, **block["ffn"].options)))

    return spec.set(stages=[grouped(stage) for stage in spec["stages"]])


HEADS = (4, 4, 8, 8)

VARIANTS = {
    "apvt_tiny": apvt(DIMS, (2, 2, 2, 2), HEADS),
    "apvt_small": apvt(DIMS, (3, 4, 6, 3), HEADS),
    "apvt_medium": apvt(DIMS, (3, 4, 18, 3), HEADS),
    "apvt_large": apvt(DIMS, (3, 8, 27, 3), HEADS),
    # Ours, for images of 8 to 32 pixels and for tests.
    "apvt_micro": apvt(
        (32, 64), (2, 2), (4, 4), reductions=(2, 1), ratios=(4.0, 2.0), patch=2, image_size=8
    ).set(init="fan_in"),
}  # fmt: skip
