"""Attention that fades along L-shaped paths of the grid at rates that the tokens on the way choose."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.polyline_mask import polyline_log_mask
from anyformer.layers.attention.manhattan import ManhattanAttention, lines_along


class PolylineAttention(ManhattanAttention):
    """(softmax(S + log L) + softmax(S + log L^T)) v / 2 + DW(v), S = q k^T / sqrt(d), L the polyline path mask.

    L multiplies the decays of the tokens along the query's row and then the key's column; L^T goes the other way
    round. Zhao et al. 2025 (PPMA), arXiv:2506.15940, section 3, with Manhattan attention's rotations and
    convolution of the values; the authors' code adds the log of the mask to the scores. Tokens that `segments` calls
    padding are not seen, and zero for the decays. Cost: 2 tokens^2 c + 4 tokens c^2 + tokens c local^2 multiply-adds.

    Args:
        dim, heads, rotation, local, grid: as `ManhattanAttention`'s.
        scoring: from scores to outputs, given log L as a bias.
        decay: log masks of rows and columns from tokens.

    Raises:
        SizeError: tokens without a grid, e.g. a row of h w tokens in place of (h, w).
        OptionError: as `ManhattanAttention`'s.
    """

    name = "polyline"
    papers = ("ppma",)
    ranks = (2,)
    cost = 2.0
    tiny = {"heads": 2, "local": 3}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        decay: Spec = Spec("polyline_decay"),
        scoring: Spec = Spec("two_way_softmax"),
        **options: Any,
    ):
        super().__init__(dim, heads=heads, decay=decay, scoring=scoring, **options)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        rows, columns = self.decay(x if segments is None else segments.zero(x))
        bias = polyline_log_mask(rows.transpose(1, 2), columns.transpose(1, 2))
        return self.scoring(*self.rotated(q, k), v, bias=bias, mask=None if segments is None else segments.pairs())


class CrissCrossPolylineAttention(PolylineAttention):
    """(R C v + C R v) / 2 + DW(v): attention along rows, R, and along columns, C, each masked by its decays.

    The separable form of `PolylineAttention`: Zhao et al. 2025 (PPMA), arXiv:2506.15940, section 3. Cost: 3 tokens
    (rows + columns) c + 4 tokens c^2 + tokens c local^2 multiply-adds, tokens^1.5 on a square. Arguments and errors as
    `PolylineAttention`'s; as the mask of a line is its own transpose, the scoring is a plain softmax.
    """

    name = "criss_cross_polyline"
    papers = ("ppma",)
    cost = 1.5
    tiny = {"heads": 2, "local": 3}

    def __init__(self, dim: int, *, heads: int, scoring: Spec = Spec("softmax"), **options: Any):
        super().__init__(dim, heads=heads, scoring=scoring, **options)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        masks = self.decay(x if segments is None else segments.zero(x))
        q, k, v = (t.unflatten(2, tuple(x.shape[1:-1])) for t in (*self.rotated(q, k), v))
        once, maps = [], []
        for axis, bias in ((2, masks[0]), (1, masks[1])):
            valid = None if segments is None else segments.valid.movedim(axis, -1).flatten(0, -2)[:, None, None]
            parts = [lines_along(t, axis - 1).flatten(0, 1) for t in (q, k, v)]
            y, weights = self.scoring(*parts, bias=bias.flatten(0, 1), mask=valid, with_map=True)
            once.append(y.unflatten(0, (len(x), -1)))  # (b, lines, h, n, d)
            maps.append(weights.unflatten(0, (len(x), -1)))
        # The rows' lines are in order along the columns, and the other way round.
        both = [weights @ y.transpose(1, 3) for weights, y in zip(maps, reversed(once), strict=True)]
        mixed = (both[0].transpose(1, 2) + both[1].permute(0, 2, 3, 1, 4)) / 2
        return mixed.flatten(2, 3)
