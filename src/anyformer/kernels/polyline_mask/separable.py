"""The product of a polyline path mask with values, one axis after the other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.kernels.polyline_mask.plain import Corner


def polyline_product(
    rows: Float[Tensor, "*b h w w"],
    columns: Float[Tensor, "*b w h h"],
    values: Float[Tensor, "*b h w d"],
    first: Corner = "row",
) -> Float[Tensor, "*b h w d"]:
    """L times values `(..., h, w, d)` without L, equal to `polyline_product_plain`.

    What a path follows first is summed last. Zhao et al. 2025, arXiv:2506.15940, section 3.
    Cost: h w (h + w) d multiply-adds, tokens^1.5 on a square; memory for (h + w) h w numbers.
    """
    across, along = rows.exp(), columns.exp()
    if first == "row":
        return across @ (along @ values.transpose(-3, -2)).transpose(-3, -2)
    return (along.mT @ (across.mT @ values).transpose(-3, -2)).transpose(-3, -2)
