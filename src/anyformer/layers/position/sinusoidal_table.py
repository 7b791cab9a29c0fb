"""Fixed sines of a token's number, as a table of one grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.layers.position.absolute import LearnedPosition, SinusoidalPosition


class SinusoidalTable(LearnedPosition):
    """Sines and cosines of the number of a token, counted along rows, class tokens first; they are never trained.

    As T2T-ViT has them (Yuan et al. 2021, arXiv:2101.11986, section 3.2). The number of a place depends on the width
    of the grid: another grid is refused, unless resizing the table as an image's is asked for.

    Args:
        dim: channels.
        grid: the grid that the table is made for.
        prefix: tokens before the grid.
        resize: what happens to other grids: "refuse", or as `LearnedPosition`'s.

    Raises:
        SizeError: another grid, where `resize` is "refuse".
    """

    name = "sinusoidal_table"
    papers = ("t2t_vit",)
    tiny = {"grid": (4, 6)}

    def __init__(
        self,
        dim: int,
        *,
        grid: Sequence[int],
        prefix: int = 0,
        resize: Literal["refuse", "bicubic", "cubic", "bilinear"] = "refuse",
    ):
        super().__init__(dim, grid=grid, prefix=prefix, resize="bicubic" if resize == "refuse" else resize)
        self.refuses = resize == "refuse"
        codes = SinusoidalPosition(dim).table(torch.arange(len(self.table)))
        self.table = nn.Parameter(codes, requires_grad=False)

    def _resized(self, table: Tensor, grid: tuple[int, ...]) -> Tensor:
        if self.refuses:
            raise SizeError(
                f"the fixed positions are built for a grid of {'x'.join(map(str, self.grid))} tokens and the image has "
                f"{'x'.join(map(str, grid))}: give images of the model's size, build it with image_size=..., or ask "
                "for resizing, as in position=Spec('sinusoidal_table', resize='bicubic')."
            )
        return super()._resized(table, grid)
