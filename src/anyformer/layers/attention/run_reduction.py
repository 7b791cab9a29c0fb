"""Attention to means of runs of tokens, in the order in which the grid is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads
from anyformer.layers.attention.spatial_reduction import SpatialReductionAttention


class RunReductionAttention(SpatialReductionAttention):
    """Multi-head attention whose keys and values come from the means of runs of R^rank tokens.

    softmax(q k^T / sqrt(d)) v with k, v = W_kv norm(mean_run(x)); with R = 1, plain attention. Efficient multi-head
    self-attention of Li et al. 2022 (Next-ViT), arXiv:2207.05501, equations 5 and 6, whose code averages along the
    flattened grid. Tokens behind the last whole run are no keys; of fewer tokens than a run, all are one.
    Cost: 2 tokens^2 c / R^rank + (2 + 2 / R^rank) tokens c^2 multiply-adds.

    Tokens that `segments` calls padding are zero in the means; runs of nothing but padding are not seen.

    Args:
        dim, heads, bias, scoring: as `SpatialReductionAttention`'s.
        reduction: R, along each axis of the grid.
        norm: norm of the means.
        grid: only its rank counts.
    """

    name = "run_reduction"
    papers = ("medvit_v2",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 1,
        norm: Spec = Spec("batchnorm"),
        grid: Sequence[int | None] = (None, None),
        **options: Any,
    ):
        super().__init__(dim, heads=heads, reduction=min(reduction, 1), grid=grid, **options)
        self.run = reduction ** len(grid)
        self.norm = build(norm, "norm", dim=dim) if reduction > 1 else None

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        source = (x if segments is None else segments.zero(x)).flatten(1, -2)
        mask = None if segments is None else segments.valid.flatten(1)
        if self.norm is not None:
            run = min(self.run, source.shape[1])
            whole = source.shape[1] // run * run
            source = self.norm(source[:, :whole].unflatten(1, (-1, run)).mean(2))
            mask = None if mask is None else mask[:, :whole].unflatten(1, (-1, run)).any(2)
        k, v = self._heads(self.kv(source)).chunk(2, dim=1)
        y = self.scoring(self._heads(self.q(x)), k, v, mask=None if mask is None else mask[:, None, None])
        return self.out(merge_heads(y)).view_as(x)
