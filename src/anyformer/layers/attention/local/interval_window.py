"""Attention inside windows of tokens at an interval: neighbours at one, far tokens at more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, Tiling, plan
from anyformer.layers.attention.local.window import WindowAttention


class IntervalWindowAttention(WindowAttention):
    """Softmax attention inside windows that hold every I-th token along each axis.

    Short-distance attention (SDA) with I = 1, long-distance attention (LDA) with more: Wang et al. 2021 (CrossFormer),
    arXiv:2108.00154, section 3.2; in blocks that alternate, G windows of I neighbours meet in one. A region of
    (G I)^rank tokens has I^rank windows; an axis that one window covers has interval 1. Tokens that fill the last
    region are not seen (those of `WindowAttention` are). Cost: 2 tokens window^rank c + 4 tokens c^2 multiply-adds.

    Args:
        dim, heads, cap, qkv_bias, scoring, grid: as `WindowAttention`'s.
        window: tokens along each side of a window, G.
        interval: steps between them, I.
        rest: a grid that window * interval does not divide is filled ("pad") or raises `SizeError` ("refuse").
        distance: bias of the offset inside a window, in its own steps.

    Raises:
        OptionError: an interval below 1; heads that do not divide the channels.
        SizeError: a window larger than the grid, without `cap`; a grid that does not fit, where the rest is refused.
    """

    name = "interval_window"
    papers = ("crossformer",)
    tiny = {"heads": 2, "window": 2, "interval": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int | Sequence[int] = 7,
        interval: int = 2,
        cap: bool = False,
        rest: Rest = "pad",
        qkv_bias: bool | Literal["qv"] = True,
        distance: Spec | None = Spec("dynamic_mlp"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        if interval < 1:
            raise OptionError(f"interval_window: the interval is 1 (neighbours) or more; given {interval}.")
        options = {"rest": rest, "qkv_bias": qkv_bias, "distance": distance, "scoring": scoring}
        super().__init__(dim, heads=heads, window=window, cap=cap, grid=grid, **options)
        self.interval = interval

    def tiling(self, size: Sequence[int]) -> Tiling:
        steps = [1 if s <= w else self.interval for s, w in zip(size, self.window, strict=True)]
        return plan(size, self.window, (0,) * len(size), rest=self.rest, interval=steps)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tiling = self.tiling(x.shape[1:-1])
        if segments is None and tiling.padded != tiling.grid:  # what fills the grid becomes padding, which is not seen
            segments = Segments(torch.ones(x.shape[:-1], dtype=torch.long, device=x.device))
        return super().forward(x, segments)
