"""High and low frequencies apart: some channels are convolved and max-pooled, the others attend to a coarser map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV, merge_heads, split_dim
from anyformer.layers.attention.spatial_reduction import reduced
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.embedding.pooled_stem import POOLS
from anyformer.layers.pooling.cells import cell_means


class HighMixer(nn.Module):
    """Half of the channels convolved, half max-pooled; each half is doubled: `(b, *grid, c)` to `(b, *grid, 2 c)`.

    act(DW(W1 x_1)) beside act(W2 MaxPool(x_2)), with 3x3 neighbourhoods. Si et al. 2022 (Inception Transformer),
    arXiv:2205.12956, section 3.1. Cost: tokens (c^2 + 3^rank c) multiply-adds.

    Args:
        dim: channels; even.
        act: activation of both halves.
        grid: only its rank counts.
    """

    def __init__(self, dim: int, *, act: Spec, grid: Sequence[int | None]):
        super().__init__()
        half = dim // 2
        self.up = init.linear(half, 2 * half, bias=False)
        # Deviation 3^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(2 * half, kernel=3, bias=False, std=3 ** (-len(grid) / 2), grid=grid)
        self.pooled = init.linear(half, 2 * half)
        self.act = build(act, "act")

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat(
            [
                self.act(self.depthwise(self.up(first), segments)),
                self.act(self.pooled(max_pooled(second, segments))),
            ],
            -1,
        )


def max_pooled(x: Float[Tensor, "b *grid c"], segments: Segments | None) -> Float[Tensor, "b *grid c"]:
    """The largest of the 3 valid tokens around along each axis; zero at padding."""
    if segments is not None:
        x = x.masked_fill(~segments.valid[..., None], -math.inf)
    x = POOLS[x.dim() - 2](x.movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    return x if segments is None else segments.zero(x)


class LowMixer(nn.Module):
    """Attention among means over `pool` tokens along each axis, spread out to the tokens again: `(b, *grid, c)`.

    Si et al. 2022, arXiv:2205.12956, section 3.1. Cost: 2 (tokens / pool^rank)^2 c + 3 tokens c^2 / pool^rank
    multiply-adds. There is no projection of its own behind it.

    Args:
        dim, heads: channels, and heads that share them.
        pool: tokens along each axis that one mean stands for.
        scoring: from scores to outputs.
        part: who asks, for messages.

    Raises:
        SizeError: a grid that `pool` does not divide.
    """

    def __init__(self, dim: int, *, heads: int, pool: int, scoring: Spec, part: str):
        super().__init__()
        self.pool, self.part = pool, part
        self.qkv = QKV(dim, heads=heads, part=part)
        self.scoring = build(scoring, "scoring", heads=heads)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        grid = tuple(x.shape[1:-1])
        if any(side % self.pool for side in grid):
            raise SizeError(
                f"{self.part}: a map of {'x'.join(map(str, grid))} is not made of whole cells of {self.pool} tokens, "
                f"so it could not be spread out to its size again; sides that fit are multiples of {self.pool} "
                "(of a whole model's images: of the pool times the stage's stride); or set pool=1."
            )
        mask = None if segments is None else segments.valid
        if self.pool > 1:
            x = cell_means(x, self.pool, segments)
            mask = None if mask is None else reduced(mask, self.pool)
        q, k, v = self.qkv(x.flatten(1, -2))
        y = self.scoring(q, k, v, mask=None if mask is None else mask.flatten(1)[:, None, None])
        y = merge_heads(y).view(x.shape)
        for axis in range(len(grid)) if self.pool > 1 else ():
            y = y.repeat_interleave(self.pool, axis + 1)
        return y


class InceptionMixer(TokenMixer):
    """W (y + DW(y)), where y joins high frequencies of some channels and low frequencies of the others.

    Of `heads` equal shares of the channels, `attention` go to the `LowMixer` (means, attention) and the rest to the
    `HighMixer` (convolution, max-pooling), which doubles its channels; a 3x3 depthwise convolution and a projection
    join them. Si et al. 2022 (Inception Transformer, iFormer), arXiv:2205.12956, section 3.1. In the
    paper the share of attention grows with depth ("frequency ramp", section 3.2). Padding is left out of all pooling.
    Cost: 2 (tokens / pool^rank)^2 low + tokens (3 low^2 / pool^rank + high^2 + (high + 18 high + 9 low) + (2 high +
    low) c) multiply-adds on images.

    Args:
        dim: channels.
        heads: shares of the channels.
        attention: shares that attend; `heads` for no high path, 0 for no low path (None: half of them).
        pool: tokens along each axis of which attention sees the mean.
        act: activation in the high path.
        scoring: from scores to outputs.
        grid: only its rank counts.

    Raises:
        OptionError: heads that do not divide dim; `attention` outside 0 to heads; a high path of an odd number of
            channels; a pool below 1.
        SizeError: a grid that `pool` does not divide.
    """

    name = "inception"
    papers = ("inception_transformer",)
    ranks = (1, 2, 3)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        attention: int | None = None,
        pool: int = 2,
        act: Spec = Spec("gelu"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        share = split_dim(dim, heads, None, self.name)
        attention = (heads + 1) // 2 if attention is None else attention
        if not 0 <= attention <= heads or pool < 1:
            raise OptionError(
                f"{self.name}: between 0 and all of its {heads} heads attend, to means over 1 token or more along each "
                f"axis; given attention={attention}, pool={pool}."
            )
        self.low_dim = attention * share
        self.high_dim = dim - self.low_dim
        if self.high_dim % 2:
            raise OptionError(
                f"{self.name}: the high path halves its channels (one half is convolved, one max-pooled); "
                f"{heads - attention} of {heads} heads leave it {self.high_dim} of {dim}: take an even number."
            )
        self.high = HighMixer(self.high_dim, act=act, grid=grid) if self.high_dim else None
        self.low = (
            LowMixer(self.low_dim, heads=attention, pool=pool, scoring=scoring, part=self.name) if attention else None
        )
        joined = 2 * self.high_dim + self.low_dim
        self.fuse = DepthwiseConv(joined, kernel=3, bias=False, std=3 ** (-len(grid) / 2), grid=grid)
        self.out = init.linear(joined, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        high, low = x.split((self.high_dim, self.low_dim), -1)
        parts = []
        if self.high is not None:
            parts.append(self.high(high, segments))
        if self.low is not None:
            parts.append(self.low(low, segments))
        y = torch.cat(parts, -1)
        return self.out(y + self.fuse(y, segments))
