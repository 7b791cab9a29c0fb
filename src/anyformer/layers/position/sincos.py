"""Fixed sines and cosines of an image's columns and rows, counted in tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.layers.position.absolute import SinusoidalPosition


class SinCosGrid(Part):
    """The first half of the channels codes the column, the second the row: each all sines, then all cosines.

    He et al. 2021 (MAE), arXiv:2111.06377, appendix A.1; Peebles and Xie 2022 (DiT), arXiv:2212.09748. Nothing is
    learned; any grid of rank 2.

    Args:
        dim: channels; a multiple of 4.
        base: the longest period over 2 pi, in tokens.

    Raises:
        OptionError: another `dim`.
    """

    name = "sincos_grid"
    kind = "position"
    papers = ("switch_dit",)
    tiny = {"grid": (4, 6)}

    def __init__(self, dim: int, *, base: float = 10000.0, grid: Sequence[int | None] | None = None):
        super().__init__()
        if dim % 4:
            raise OptionError(
                f"sincos_grid codes columns and rows by sines and cosines: dim is a multiple of 4; {dim}."
            )
        self.axis = SinusoidalPosition(dim // 2, layout="halves", base=base)

    def table(self, grid: Sequence[int], device: torch.device | None = None) -> Float[Tensor, "h w c"]:
        """The code of every place of a grid."""
        rows, columns = (self.axis.table(torch.arange(side, device=device)) for side in grid)
        shape = (*grid, rows.shape[-1])
        return torch.cat([columns[None].expand(shape), rows[:, None].expand(shape)], -1)

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """Add the codes to all tokens."""
        codes = self.table(tuple(grid) or tuple(x.shape[1:-1]), x.device)
        return x + codes.view(1, *x.shape[1:]).to(x.dtype)
