"""Attention to a smaller map: every token asks, patches of R x R tokens answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.embedding.patch import StridedConv


class SpatialReductionAttention(TokenMixer):
    """Multi-head attention whose keys and values come from the map reduced by an R x R convolution of stride R.

    softmax(q k^T / sqrt(d)) v with k, v = W_kv norm(conv_R(x)); with R = 1, plain attention. Wang et al. 2021 (PVT),
    arXiv:2102.12122, equations 1 to 3. Cost: 2 tokens^2 c / R^rank + (2 + 3 / R^rank) tokens c^2 multiply-adds.

    A map that R does not divide is filled with zeros at its end. Tokens that `segments` calls padding are zero for
    the convolution; patches of nothing but padding are not seen.

    Args:
        dim: channels.
        heads: attention heads.
        reduction: R, along each axis of the grid.
        bias: biases of queries, keys and values.
        norm: norm of the reduced map.
        scoring: from scores to outputs, e.g. Spec("softmax").
        grid: the grid that the part is built for; decides the rank (2 where it is unknown).
    """

    name = "spatial_reduction"
    papers = ("pvt",)
    ranks = (1, 2, 3)
    cost = 2.0
    tiny = {"heads": 2, "reduction": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 1,
        bias: bool = True,
        norm: Spec = Spec("layernorm"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if reduction < 1:
            raise OptionError(f"{self.name}: the reduction is 1 or more; given {reduction}.")
        self.head_dim = split_dim(dim, heads, None, self.name)
        self.q = init.linear(dim, dim, bias)
        self.kv = init.linear(dim, 2 * dim, bias)
        self.reduce = self.norm = None
        if reduction > 1:
            self.reduce = StridedConv(dim, dim, kernel=reduction, stride=reduction, rank=len(grid), what=self.name)
            self.norm = build(norm, "norm", dim=dim)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        source = x if segments is None else segments.zero(x)
        mask = None if segments is None else segments.valid
        if self.reduce is not None and self.norm is not None:
            source = self.norm(self.reduce(source))
            mask = None if mask is None else reduced(mask, self.reduce.stride)
        q, kv = self._heads(self.q(x)), self._heads(self.kv(source))
        k, v = kv.chunk(2, dim=1)
        y = self.scoring(q, k, v, mask=None if mask is None else mask.flatten(1)[:, None, None])
        return self.out(merge_heads(y)).view_as(x)

    def _heads(self, x: Tensor) -> Float[Tensor, "b h n d"]:
        return x.flatten(1, -2).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def reduced(valid: Tensor, reduction: int) -> Tensor:
    """Which patches hold at least one valid token: `(b, *grid)` to `(b, *grid / reduction)`."""
    missing = [n for size in reversed(valid.shape[1:]) for n in (0, -size % reduction)]
    valid = torch.nn.functional.pad(valid, missing)
    patches = valid.reshape(len(valid), *(n for size in valid.shape[1:] for n in (size // reduction, reduction)))
    return patches.amax(dim=tuple(range(2, patches.dim(), 2)))
