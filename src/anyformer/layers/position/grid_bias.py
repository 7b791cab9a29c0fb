"""Relative positions on a whole grid with class tokens in front, as a bias of attention scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.layers.position.window_bias import relative_index


class GridTable(Part):
    """A learned bias per head for every offset on the grid; one each to, from and among the class tokens.

    Bao et al. 2021 (BEiT), arXiv:2106.08254, appendix; the encoder of SimMIM shares one table among all blocks.
    Cost: (2 h - 1)(2 w - 1) + 3 rows of numbers, tokens^2 reads.

    Args:
        heads: heads of the attention.
        grid: the grid that the table is made for; another one raises `SizeError`.
        prefix: class tokens before the grid.
    """

    name = "grid_table"
    kind = "bias"
    papers = ("simmim",)
    tiny = {"heads": 2, "grid": (3, 4), "prefix": 1}
    index: Tensor

    def __init__(self, heads: int, *, grid: Sequence[int], prefix: int = 0):
        super().__init__()
        self.grid, self.prefix = tuple(grid), prefix
        rows = math.prod(2 * g - 1 for g in self.grid)
        self.table = nn.Parameter(trunc_normal(torch.empty(rows + 3 * (prefix > 0), heads), 0.02))
        self.register_buffer("index", with_prefix(relative_index(self.grid), prefix, rows), persistent=False)

    def forward(self, queries: int, keys: int, device: torch.device) -> Float[Tensor, "h q k"]:
        """The bias of all tokens for all tokens."""
        tokens = len(self.index)
        if (queries, keys) != (tokens, tokens):
            raise SizeError(
                f"{self.name} is built for {tokens} tokens, a grid of {'x'.join(map(str, self.grid))}; given {keys}: "
                "build the model with the image_size of your images."
            )
        # In one piece: torch reads a bias that is not more slowly.
        return self.table[self.index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()


def with_prefix(index: Int[Tensor, "t t"], prefix: int, rows: int) -> Int[Tensor, "n n"]:
    """The index with class tokens in front: from them, to them and among them are the three rows after `rows`."""
    if not prefix:
        return index
    wide = nn.functional.pad(index, (prefix, 0, prefix, 0))
    wide[:prefix], wide[:, :prefix], wide[:prefix, :prefix] = rows, rows + 1, rows + 2
    return wide
