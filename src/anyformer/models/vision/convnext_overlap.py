"""ConvNeXt behind a stem of overlapping convolutions, as timm publishes it in small sizes.

Liu et al. 2022, arXiv:2201.03545, with the stem of Xiao et al. 2021, arXiv:2106.14881.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.models.vision.convnext import SIMPLE, convnext, doubled

PAPERS = ("convnext",)
STEM = Spec("conv_stem", norm=None)


def overlapping(dim: int, depths: Sequence[int], hidden: int) -> Spec:
    """A ConvNeXt whose stem has `hidden` channels between its two convolutions."""
    return convnext(
        doubled(dim), depths, embed=STEM.set(widths=(hidden,), act=None, out_norm=Spec("layernorm", eps=1e-6))
    )


VARIANTS = {
    "convnext_overlap_atto": overlapping(40, (2, 2, 6, 2), 24),
    "convnext_overlap_femto": overlapping(48, (2, 2, 6, 2), 24),
    "convnext_overlap_pico": overlapping(64, (2, 2, 6, 2), 32),
    "convnext_overlap_nano": overlapping(80, (2, 2, 8, 2), 80),
    "convnext_overlap_zepto_rms": convnext(
        doubled(32), (2, 2, 4, 2), norm=SIMPLE, embed=STEM.set(widths=(32,), act=Spec("gelu"), out_norm=SIMPLE)
    ),
}
