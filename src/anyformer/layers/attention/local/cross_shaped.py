"""Attention inside a cross: half of the heads in upright stripes of the grid, half in lying ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, Tiling, plan, tile, tile_segments, untile
from anyformer.layers.attention.projection import QKV, merge_heads


class StripeHeads(nn.Module):
    """Heads that share a tiling: attention inside its windows, plus LePE. Arguments as `CrossShapedAttention`'s."""

    def __init__(self, dim: int, *, heads: int, lepe: Spec | None, scoring: Spec):
        super().__init__()
        self.scoring = build(scoring, "scoring", heads=heads)
        self.lepe = build(lepe, "mixer", dim=dim, grid=(None, None)) if lepe is not None else None

    def forward(
        self,
        q: Float[Tensor, "b heads n d"],
        k: Float[Tensor, "b heads n d"],
        v: Float[Tensor, "b heads n d"],
        tiling: Tiling,
        segments: Segments | None,
    ) -> Float[Tensor, "b h w c"]:
        batch, _, _, dim = q.shape
        stripes = [tile(merge_heads(t).unflatten(1, tiling.grid), tiling).flatten(0, 1) for t in (q, k, v)]
        if segments is None and tiling.padded != tiling.grid:
            segments = Segments(torch.ones(batch, *tiling.grid, dtype=torch.long, device=q.device))
        mask = None
        if segments is not None:
            tokens = stripes[0].shape[1]
            mask = tile_segments(segments, tiling).expand(-1, -1, -1, tokens, -1).flatten(0, 1)
        heads = [t.unflatten(-1, (-1, dim)).transpose(1, 2) for t in stripes]
        y = merge_heads(self.scoring(*heads, mask=mask))
        if self.lepe is not None:
            y = y + self.lepe(stripes[2].unflatten(1, tiling.window)).flatten(1, 2)
        return untile(y.unflatten(0, (batch, -1)), tiling)


class CrossShapedAttention(TokenMixer):
    """Softmax attention in which half of the heads see upright stripes, half lying ones: together, a cross.

    softmax(q k^T / sqrt(d)) v + DWConv(v) inside stripes of H x sw and sw x W tokens, side by side and mapped by one
    linear layer; the depthwise convolution inside the stripe is the locally-enhanced positional encoding (LePE).
    Dong et al. 2021 (CSWin), arXiv:2107.00652, equations 1 to 5. Cost: (H + W) sw tokens c + 4 tokens c^2 + 9 tokens c
    multiply-adds; without stripes, 2 tokens^2 c in place of the first term.

    Tokens with which `rest` "pad" completes the last stripe, and tokens that `segments` calls padding, are not seen;
    for the convolution they are zero, as what lies outside the stripe.

    Args:
        dim: channels.
        heads: attention heads; even, unless every head sees the whole grid.
        stripe: tokens across a stripe, sw; one that is wider than the grid is as wide as the grid. None: no stripes,
            every head sees the whole grid (the last stage of CSWin).
        rest: a grid that stripes do not divide raises `SizeError` ("refuse") or is filled ("pad").
        qkv_bias: biases of queries, keys and values; "qv" leaves the keys' out.
        lepe: what is added to each stripe from its values, a token mixer; None for nothing.
        scoring: from scores to outputs, e.g. Spec("softmax").
        grid: the grid that the part is built for, `(rows, columns)`.

    Raises:
        OptionError: an odd number of heads for two kinds of stripes; a stripe of no token.
        SizeError: a grid that stripes do not divide, where the rest is refused.
    """

    name = "cross_shaped"
    papers = ("cswin",)
    ranks = (2,)
    cost = 1.5
    head_kinds = 2
    tiny = {"heads": 2, "stripe": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        stripe: int | None = 7,
        rest: Rest = "refuse",
        qkv_bias: bool | Literal["qv"] = True,
        lepe: Spec | None = Spec("depthwise", kernel=3, std=0.19),  # the deviation that the authors' filters start with
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if stripe is not None and stripe < 1:
            raise OptionError(
                f"cross_shaped: a stripe is 1 token wide or more, None for the whole grid; given {stripe}."
            )
        halves = 1 if stripe is None else 2
        if heads % halves:
            raise OptionError(
                f"cross_shaped: half of the heads look up and down, half to the sides, so their number is even; given "
                f"heads={heads}: take {heads - 1 or 2} or {heads + 1}, or stripe=None, where all see the whole grid."
            )
        self.stripe, self.rest = stripe, rest
        self.qkv = QKV(dim, heads=heads, bias=qkv_bias, part=self.name)
        self.halves = nn.ModuleList(
            StripeHeads(dim // halves, heads=heads // halves, lepe=lepe, scoring=scoring) for _ in range(halves)
        )
        self.out = init.linear(dim, dim)
        rows, columns = grid
        if rows is not None and columns is not None:
            self.tilings((rows, columns))

    def tilings(self, size: Sequence[int]) -> list[Tiling]:
        """How the stripes of each half tile a grid of this size: upright ones, lying ones."""
        rows, columns = size
        windows = [(rows, columns)]
        if self.stripe is not None:
            windows = [(rows, min(self.stripe, columns)), (min(self.stripe, rows), columns)]
        return [plan((rows, columns), window, (0, 0), rest=self.rest) for window in windows]

    def forward(self, x: Float[Tensor, "b h w c"], segments: Segments | None = None) -> Float[Tensor, "b h w c"]:
        parts = self.qkv(x.flatten(1, 2))
        if segments is not None:  # for LePE; attention does not see them anyway
            valid = segments.valid.flatten(1)[:, None, :, None]
            parts = (*parts[:2], parts[2].masked_fill(~valid, 0))
        shares = zip(*(t.chunk(len(self.halves), dim=1) for t in parts), strict=True)
        tilings = self.tilings(x.shape[1:3])
        mixed = [
            half(*share, tiling, segments) for half, share, tiling in zip(self.halves, shares, tilings, strict=True)
        ]
        return self.out(torch.cat(mixed, -1))
