"""Attention that leaves fewer tokens: of every 2 x 2 queries the largest values are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Tiling, plan, tile, untile
from anyformer.layers.attention.projection import QKV, merge_heads, split_dim


class PooledQueryAttention(nn.Module):
    """softmax(max_2x2(q) k^T / sqrt(d)) v inside windows, or everywhere: `(b, *grid, inputs)` to `(b, *grid / 2, dim)`.

    Q-pooling of Fan et al. 2021 (MViT), arXiv:2104.11227, section 3.1, with the maximum and inside mask units as in
    Ryali et al. 2023 (Hiera), arXiv:2306.00989, section 3.2. Cost: 2 tokens^2 dim / 2^rank (windows: tokens
    window^rank in place of tokens^2) + tokens dim (3 inputs + dim / 2^rank) multiply-adds.

    Args:
        inputs, dim: channels in and out.
        heads: attention heads.
        window: side of the windows of the finer grid, an even number; None attends everywhere.
        scoring: from scores to outputs.

    Raises:
        SizeError: a grid that is not made of whole windows, or has an odd side.
    """

    def __init__(
        self, inputs: int, dim: int, *, heads: int, window: int | None = None, scoring: Spec = Spec("softmax")
    ):
        super().__init__()
        self.window = window
        self.qkv = QKV(inputs, heads=heads, head_dim=split_dim(dim, heads, None, "q_pool"), part="q_pool")
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def tiling(self, grid: Sequence[int]) -> Tiling:
        """How windows tile a grid of this size."""
        shift = (0,) * len(grid)
        pairs = plan(grid, (2,) * len(grid), shift, rest="refuse")
        return plan(grid, pairs.grid if self.window is None else (self.window,) * len(grid), shift, rest="refuse")

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *half c"]:
        fine = self.tiling(x.shape[1:-1])
        q, k, v = self.qkv(tile(x, fine).flatten(0, 1))
        rank = len(fine.window)
        q = q.unflatten(2, [n for w in fine.window for n in (w // 2, 2)])
        for pair in range(3, 3 + rank):  # one axis after the other: amax over several is slow
            q = torch.maximum(q.select(pair, 0), q.select(pair, 1))
        y = self.out(merge_heads(self.scoring(q.flatten(2, -2), k, v)))
        coarse = plan([g // 2 for g in fine.grid], [w // 2 for w in fine.window], fine.shift, rest="refuse")
        return untile(y.view(len(x), math.prod(coarse.tiles), -1, y.shape[-1]), coarse)
