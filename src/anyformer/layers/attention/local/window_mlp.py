"""A linear map of each window instead of attention: the same for every window, another for every head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.init import trunc_normal
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.layers.attention.local.tiling import Rest, fit_window, plan, tile, untile
from anyformer.layers.attention.projection import split_dim


class WindowMLP(TokenMixer):
    """y = W_h x + b_h inside windows that tile the grid, W_h (tokens x tokens) for each group of channels h.

    Swin-MLP, the variant without attention in the authors' code for Liu et al. 2021, arXiv:2103.14030. Shifted
    windows start half a window outside the grid; what lies outside is zero. Cost: tokens window^rank c multiply-adds.

    Args:
        dim: channels.
        heads: groups of channels.
        window: side of a window.
        shift: "half" a window, or none; none where one window covers an axis.
        cap, rest: as `WindowAttention`'s.
        grid: the grid that the part is built for; decides the rank (2 where it is unknown).
    """

    name = "window_mlp"
    papers = ("swin",)
    ranks = (1, 2, 3)
    tiny = {"heads": 2, "window": 2, "shift": "half"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int = 7,
        shift: Literal["none", "half"] = "none",
        cap: bool = False,
        rest: Rest = "pad",
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.heads = heads
        self.rest: Rest = rest
        split_dim(dim, heads, None, self.name)
        self.window = fit_window(window, grid, cap=cap, part=self.name)
        small = any(g is not None and g <= w for g, w in zip(grid, self.window, strict=True))
        self.shift = tuple(w // 2 if shift == "half" and not small else 0 for w in self.window)
        tokens = math.prod(self.window)
        self.weight = nn.Parameter(trunc_normal(torch.empty(heads * tokens, tokens)))
        self.bias = nn.Parameter(torch.zeros(heads * tokens))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        grid = x.shape[1:-1]
        before = [w - s if s else 0 for w, s in zip(self.window, self.shift, strict=True)]
        if any(before):
            # In front w - s, behind s: a grid of whole windows stays one.
            sides = [n for b, s in zip(reversed(before), reversed(self.shift), strict=True) for n in (b, s)]
            x = nn.functional.pad(x, (0, 0, *sides))
        tiling = plan(x.shape[1:-1], self.window, (0,) * len(grid), rest=self.rest)
        tiles = tile(x, tiling).unflatten(-1, (self.heads, -1))
        tokens = math.prod(self.window)
        weight = self.weight.view(self.heads, tokens, tokens)
        y = torch.einsum("hts,bwshd->bwthd", weight, tiles) + self.bias.view(self.heads, tokens).t()[..., None]
        y = untile(y.flatten(-2), tiling)
        return y[(slice(None), *(slice(b, b + g) for b, g in zip(before, grid, strict=True)))]
