"""Attention inside windows that tile the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, Tiling, fit_window, plan, tile, tile_segments, untile
from anyformer.layers.attention.projection import QKV, merge_heads


class WindowAttention(TokenMixer):
    """Softmax attention inside windows that tile the grid; every second block shifts the tiling by half a window.

    softmax(q k^T / sqrt(d) + B) v inside each window, B a bias of the offset. Liu et al. 2021 (Swin),
    arXiv:2103.14030, section 3.2. Cost: 2 tokens window^rank c + 4 tokens c^2 multiply-adds.

    A grid that windows do not divide is padded with zeros after the norm, which the windows see, as the authors'
    weights expect; tokens that `segments` calls padding are not seen.

    Args:
        dim: channels.
        heads: attention heads.
        window: side of a window, or its sides along each axis.
        shift: "half" a window, none where one window covers an axis; "always" half a window, there too, as in the
            authors' code for detection and segmentation; or "none".
        cap: make a window that is larger than the grid as large as the grid; without it, that raises `SizeError`.
        rest: a grid that windows do not divide is filled ("pad") or raises `SizeError` ("refuse").
        qkv_bias: biases of queries, keys and values; "qv" leaves the keys' out.
        distance: bias of the offset inside a window, e.g. Spec("relative_table"), Spec("log_cpb").
        scoring: from scores to outputs, e.g. Spec("softmax"), Spec("cosine").
        grid: the grid that the part is built for; decides the rank (2 where it is unknown).
    """

    name = "window"
    papers = ("swin",)
    ranks = (1, 2, 3)
    tiny = {"heads": 2, "window": 2, "shift": "half"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int | Sequence[int] = 7,
        shift: Literal["none", "half", "always"] = "none",
        cap: bool = False,
        rest: Rest = "pad",
        qkv_bias: bool | Literal["qv"] = True,
        distance: Spec | None = Spec("relative_table"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.window = fit_window(window, grid, cap=cap, part=self.name)
        whole = fit_window(window, (None,) * len(grid), cap=cap, part=self.name)
        self.shift = tuple(w // 2 if shift != "none" and w == a else 0 for w, a in zip(self.window, whole, strict=True))
        self.shift_lone = shift == "always"
        self.rest: Rest = rest
        self.qkv = QKV(dim, heads=heads, bias=qkv_bias, part=self.name)
        self.bias = build(distance, "bias", heads=heads, window=self.window) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tiling = self.tiling(x.shape[1:-1])
        tiles = self.gather(x, tiling)
        q, k, v = self.qkv(tiles.flatten(0, 1))
        mask = tiling.mask(x.device)
        if segments is not None:
            valid = tile_segments(segments, tiling)
            mask = (valid if mask is None else mask & valid).expand(-1, -1, -1, tiles.shape[2], -1).flatten(0, 1)
        elif mask is not None:
            mask = mask.repeat(len(x), 1, 1, 1)
        y = self.out(merge_heads(self.scoring(q, k, v, bias=self.biases(tiling), mask=mask)))
        return untile(y.view(len(x), math.prod(tiling.tiles), -1, y.shape[-1]), tiling)

    def tiling(self, size: Sequence[int]) -> Tiling:
        """How windows tile a grid of this size."""
        return plan(size, self.window, self.shift, rest=self.rest, shift_lone=self.shift_lone)

    def gather(self, x: Float[Tensor, "b *grid c"], tiling: Tiling) -> Float[Tensor, "b tiles t c"]:
        """The tokens of every window, from which its queries, keys and values are made."""
        return tile(x, tiling)

    def biases(self, tiling: Tiling) -> Float[Tensor, "h t t"] | None:
        """What is added to the scores of every pair of places in a window."""
        return self.bias() if self.bias is not None else None
