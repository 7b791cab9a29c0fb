"""Attention among all tokens of one grid, with a learned bias for each offset, and values wider than keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.pooling.mixing import check_grid, known_grid


class BiasedAttention(TokenMixer):
    """softmax(q k^T / sqrt(d) + B) v over a whole grid, B a bias per offset, v of `value_ratio` d channels a head.

    The attention of LeViT (Graham et al. 2021, arXiv:2104.01136, sections 4.4 and 4.5) as EfficientFormer has it
    (arXiv:2206.01191, section 4.1). Built for one grid; the tokens enter on it, or as its sequence `(b, tokens, c)`.
    Cost: tokens^2 heads d (1 + value_ratio) + 2 tokens c heads d (1 + value_ratio) multiply-adds.

    Args:
        dim: channels.
        heads, head_dim: heads and channels of a key (None: dim / heads).
        value_ratio: channels of a value for each of a key.
        bias: biases of queries, keys and values.
        distance: bias of the offset.
        scoring: from scores to outputs, e.g. Spec("softmax").
        grid: the grid that the part is built for.

    Raises:
        OptionError: a grid that is not known; heads that do not divide the channels.
        SizeError: tokens of another grid.
    """

    name = "biased_attention"
    papers = ("efficientformer",)
    cost = 2.0
    fixed_grid = True
    flattens: ClassVar[bool] = True
    """The tokens of its grid may enter in a row, as `sequence` makes them."""
    tiny = {"heads": 2, "value_ratio": 2.0}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        value_ratio: float = 1.0,
        bias: bool = True,
        distance: Spec | None = Spec("offset_table"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.grid = known_grid(self.name, grid)
        self.heads, self.head_dim = heads, split_dim(dim, heads, head_dim, self.name)
        values = heads * int(value_ratio * self.head_dim)
        self.widths = (heads * self.head_dim, heads * self.head_dim, values)
        self.qkv = init.linear(dim, sum(self.widths), bias)
        self.bias = build(distance, "bias", heads=heads, window=self.grid) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(values, dim)

    def heads_of(self, x: Float[Tensor, "b n c"]) -> list[Float[Tensor, "b h n d"]]:
        """Queries, keys and values of every head."""
        parts = self.qkv(x).split(self.widths, -1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tokens = self.sequence(x)
        q, k, v = self.heads_of(tokens)
        bias = self.bias() if self.bias is not None else None
        mask = None if segments is None else segments.flat().valid[:, None, None]
        return self.out(merge_heads(self.scoring(q, k, v, bias=bias, mask=mask))).view_as(x)

    def sequence(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b n c"]:
        """The grid's tokens in a row. Raises `SizeError` for those of another grid."""
        given = tuple(x.shape[1:-1])
        if given != (math.prod(self.grid),):
            check_grid(self.name, given, self.grid)
        return x.flatten(1, -2)
