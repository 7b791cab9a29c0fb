"""The polyline path mask by its definition: for every pair of places, the product of the decays on the way."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Corner = Literal["row", "column"]
"""What a path follows first from a query: its row up to the key's column, or its column up to the key's row."""


def line_log_mask(steps: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n n"]:
    """The log of the product of decays between two places of a line: -|s_i - s_j| with s the running sum of `steps`.

    `steps` are logs of decays, at most 0: that of a place is passed on the way from the place before it. Zhao et al.
    2025, arXiv:2506.15940, section 3, to both sides. Cost: n^2 subtractions.
    """
    sums = steps.cumsum(-1)
    return -(sums[..., :, None] - sums[..., None, :]).abs()


def polyline_log_mask(
    rows: Float[Tensor, "*b h w w"], columns: Float[Tensor, "*b w h h"], first: Corner = "row"
) -> Float[Tensor, "*b hw hw"]:
    """log L for all pairs of places, row by row: a query's path to a key has one corner.

    With `first` "row", L[(i, j), (k, l)] = rows[i, j, l] columns[l, i, k]; with "column", columns[j, k, i]
    rows[k, l, j], its transpose. arXiv:2506.15940, section 3. Cost: (h w)^2 additions.

    Args:
        rows, columns: log masks of every row and every column, `line_log_mask`.
        first: what the paths follow first.
    """
    across = rows.unsqueeze(-3)  # i 1 j l
    along = columns.movedim(-3, -1).unsqueeze(-2)  # i k 1 l
    mask = (across + along).transpose(-3, -2)  # i j k l
    mask = mask.flatten(-4, -3).flatten(-2, -1)
    return mask if first == "row" else mask.mT


def polyline_product_plain(
    rows: Float[Tensor, "*b h w w"],
    columns: Float[Tensor, "*b w h h"],
    values: Float[Tensor, "*b h w d"],
    first: Corner = "row",
) -> Float[Tensor, "*b h w d"]:
    """L times values `(..., h, w, d)`, through the whole matrix. Cost: (h w)^2 d multiply-adds."""
    mask = polyline_log_mask(rows, columns, first).exp()
    return (mask @ values.flatten(-3, -2)).view(values.shape)
