"""Attention inside windows whose number, not size, is fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Tiling, plan
from anyformer.layers.attention.local.window import WindowAttention


class SplitWindowAttention(WindowAttention):
    """Softmax attention inside the windows of a grid that is cut into `splits` along each axis.

    Li et al. 2022 (ViTDet), arXiv:2203.16527, section 3, as LW-DETR uses it (arXiv:2406.03459, section 3.1): windows
    grow with the image. Cost: 2 tokens^2 / splits^rank c + 4 tokens c^2 multiply-adds. A grid that the cuts do not
    divide is padded with zeros, as `WindowAttention`'s.

    Args:
        dim, heads, qkv_bias, distance, scoring, grid: as `WindowAttention`'s.
        splits: windows along each axis.
    """

    name = "split_window"
    papers = ("group_detr",)
    cost = 2.0
    tiny = {"heads": 2, "splits": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        splits: int = 4,
        qkv_bias: bool | Literal["qv"] = True,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        if splits < 1:
            raise OptionError(f"split_window cuts each axis into one window or more; given splits={splits}.")
        super().__init__(dim, heads=heads, window=1, qkv_bias=qkv_bias, distance=None, scoring=scoring, grid=grid)
        self.splits = splits

    def tiling(self, size: Sequence[int]) -> Tiling:
        return plan(size, tuple(math.ceil(s / self.splits) for s in size), (0,) * len(size), rest="pad")
