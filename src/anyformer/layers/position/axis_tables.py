"""A learned vector for every place along each axis, added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import PUBLISHED, published, trunc_normal
from anyformer.core.part import Part


class AxisTables(Part):
    """The vector of a token's row plus that of its column (and so on), added to the tokens of a grid.

    Ho et al. 2019, arXiv:1912.12180, section 3.2. A smaller grid uses the beginnings of the tables.

    Args:
        dim: channels.
        grid: the largest grid.
        std: deviation of the first values; None: 0.02, or with `init="fan_in"` dim^-0.5.

    Raises:
        SizeError: a larger grid.
    """

    name = "axis_tables"
    kind = "position"
    papers = ("axial_transformer",)
    tiny = {"grid": (4, 6)}

    def __init__(self, dim: int, *, grid: Sequence[int], std: float | None = None):
        super().__init__()
        if std is None:
            std = PUBLISHED if published() else dim**-0.5
        self.tables = nn.ParameterList(nn.Parameter(trunc_normal(torch.empty(n, dim), std)) for n in grid)

    def codes(self, grid: Sequence[int]) -> Float[Tensor, "*grid c"]:
        """The sum of the tables at every place of a grid."""
        limits = [len(table) for table in self.tables]
        if len(grid) != len(limits) or any(n > most for n, most in zip(grid, limits, strict=False)):
            raise SizeError(
                f"the tables of positions are made for grids of up to {tuple(limits)}; given {tuple(grid)}: build the "
                "model with a larger image_size."
            )
        codes = self.tables[0][: grid[0]]
        for table, n in zip(list(self.tables)[1:], grid[1:], strict=True):
            codes = codes[..., None, :] + table[:n]
        return codes

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        return x + self.codes(tuple(grid) or tuple(x.shape[1:-1])).view(x.shape[1:])
