"""A learned table of positions that starts as sines and cosines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from anyformer.layers.position.absolute import LearnedPosition
from anyformer.layers.position.sincos import SinCosGrid


class SinCosTable(LearnedPosition):
    """`LearnedPosition` for images that starts as the codes of `SinCosGrid`; trained, and resized to other grids.

    SG-Former's positions, as its authors' code has them (arXiv:2308.12216).

    Args:
        dim: channels; a multiple of 4.
        grid: the grid that the table is made for, `(rows, columns)`.
        options: the others of `LearnedPosition`; tokens before the grid start at zero.

    Raises:
        OptionError: another `dim`.
    """

    name = "sincos_table"
    papers = ("sg_former",)
    tiny = {"grid": (4, 6)}

    def __init__(self, dim: int, *, grid: Sequence[int], **options: Any):
        super().__init__(dim, grid=grid, **options)
        codes = SinCosGrid(dim).table(self.grid).flatten(0, 1)
        with torch.no_grad():
            self.table.zero_()
            self.table[self.offset + self.prefix :] = codes.to(self.table.device)
