"""Softmax attention whose bias counts from the query's side and from the key's side."""

from __future__ import annotations

from torch import Tensor, nn

from anyformer.kernels.attention import allowed
from anyformer.layers.attention.scoring.softmax import Scoring


class TwoWaySoftmax(Scoring):
    """(softmax(S + B) + softmax(S + B^T)) v / 2 with S = q k^T / sqrt(d): the mean over a bias and its transpose.

    Zhao et al. 2025 (PPMA), arXiv:2506.15940, for paths that go along a row first or along a column first. Without a
    bias it is `Softmax`. Scores are computed once; the map is stored. Cost: 2 b h q k d multiply-adds, as many queries
    as keys where there is a bias.
    """

    name = "two_way_softmax"
    papers = ("ppma",)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        with_map: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        if bias is None:
            return super().forward(q, k, v, mask=mask, causal=causal, with_map=with_map)
        q, k, scale = self.queries_keys(q, k)
        scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
        ways = [scores + bias, scores + bias.mT]
        if causal:
            seen = allowed(q.shape[-2], k.shape[-2], q.device)
            mask = seen if mask is None else mask & seen
        if mask is not None:
            ways = [way.masked_fill(~mask, float("-inf")) for way in ways]
        weights = (ways[0].softmax(-1) + ways[1].softmax(-1)) / 2
        weights = weights if mask is None else weights.masked_fill(~mask, 0.0)
        self.map = weights.detach() if self.record else None
        y = nn.functional.dropout(weights, self.dropout, self.training) @ v
        return (y, weights) if with_map else y
