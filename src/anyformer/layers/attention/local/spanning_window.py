"""Attention in windows of neighbours and in windows that span the map, over the same queries, keys and values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import (
    Tiling,
    complete,
    fit_window,
    plan,
    tile,
    tile_segments,
    untile,
)
from anyformer.layers.attention.projection import merge_heads
from anyformer.layers.convolution.mobile import Mobile

Windows = Literal["close", "remote", "both"]


class SpanningWindowMobile(Mobile):
    """`Mobile` whose expansion is attention: h = close(q, k, v) + remote(q, k, v), v = act(W x) of the hidden width.

    Each is softmax(q k^T / sqrt(d)) v: close in windows of w x w neighbours, remote in windows of w x w tokens spread
    evenly over the whole map; both share q, k (of c channels) and v. Zhang et al. 2024 (EMOv2), arXiv:2412.06674,
    section 3, the inside of an i2RMB; remote windows alone are EMO's (arXiv:2301.01146). Cost: 2 tokens window^rank c
    (1 + ratio) + tokens c^2 (2 + 2 ratio) + tokens ratio c kernel^rank multiply-adds.

    A grid that windows do not divide is padded with zeros after the norm, which the windows see, as the authors'
    weights expect; tokens that `segments` calls padding are not seen.

    Args:
        dim: channels.
        head_dim: channels of a head's queries and keys.
        window: tokens along each axis of a window, of either kind; one that is larger than the grid covers it.
        windows: which of the two.
        scoring: from scores to outputs, e.g. Spec("softmax").
        grid: the grid that the part is built for; decides the rank.
        options: those of `Mobile`; `bias` is of queries, keys and values.

    Raises:
        OptionError: channels that `head_dim` does not divide; hidden channels that the heads do not.
    """

    name = "spanning_window"
    papers = ("emo_v2",)
    tiny = {"head_dim": 4, "window": 2, "ratio": 2.0, "kernel": 3}

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 32,
        window: int | Sequence[int] = 7,
        windows: Windows = "both",
        act: Spec = Spec("gelu"),
        bias: bool = True,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
        **options: Any,
    ):
        super().__init__(dim, act=act, bias=bias, grid=grid, **options)
        if head_dim < 1 or dim % head_dim or self.hidden % (dim // head_dim):
            fits = [d for d in range(1, dim + 1) if dim % d == 0 and self.hidden % (dim // d) == 0]
            raise OptionError(
                f"{self.name}: heads of {head_dim} channels divide {dim} channels, and their number the "
                f"{self.hidden} hidden ones; given head_dim={head_dim}, those that fit: {', '.join(map(str, fits))}."
            )
        self.heads = dim // head_dim
        self.window = fit_window(window, grid, cap=True, part=self.name)
        self.windows: Windows = windows
        self.qk = init.linear(dim, 2 * dim, bias)
        self.scoring = build(scoring, "scoring", heads=self.heads)

    def tilings(self, size: Sequence[int]) -> list[Tiling]:
        """How windows of each kind tile a grid of this size."""
        window = tuple(min(w, s) for w, s in zip(self.window, size, strict=True))
        kinds = {"close": (False,), "remote": (True,), "both": (True, False)}[self.windows]
        return [plan(size, window, (0,) * len(window), rest="pad", spread=spread) for spread in kinds]

    def expand(self, x: Float[Tensor, "b *grid c"], segments: Segments | None) -> Float[Tensor, "b *grid h"]:
        size = tuple(x.shape[1:-1])
        tilings = self.tilings(size)
        x = complete(x, tilings[0])  # both kinds complete it alike, and share queries, keys and values
        qk, v = self.qk(x), self.act(self.widen(x))
        found = [self.inside(qk, v, tiling, segments) for tiling in tilings]
        h = found[0] if len(found) == 1 else found[0] + found[1]
        return h[(slice(None), *(slice(side) for side in size))]

    def inside(
        self, qk: Float[Tensor, "b *grid k"], v: Float[Tensor, "b *grid h"], tiling: Tiling, segments: Segments | None
    ) -> Float[Tensor, "b *grid h"]:
        """Attention inside the windows of one tiling, over the completed grid."""
        mask = None if segments is None else tile_segments(segments, tiling).flatten(0, 1)
        whole = replace(tiling, grid=tiling.padded)
        q, k = self._heads(tile(qk, whole), 2 * self.heads).chunk(2, 1)
        y = merge_heads(self.scoring(q, k, self._heads(tile(v, whole), self.heads), mask=mask))
        return untile(y.view(len(v), math.prod(whole.tiles), -1, y.shape[-1]), whole)

    def _heads(self, tiles: Float[Tensor, "b tiles t c"], heads: int) -> Float[Tensor, "w h t d"]:
        return tiles.flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2)
