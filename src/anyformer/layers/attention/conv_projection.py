"""Attention whose queries, keys and values come from depthwise convolutions of the map."""

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
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.attention.spatial_reduction import reduced
from anyformer.layers.embedding.patch import CONVOLUTIONS


class ConvProjection(nn.Module):
    """Linear(norm(depthwise convolution of stride s)) of a map, Linear alone of the class tokens before it.

    Maps `(b, *grid, c)` and class tokens `(b, p, c)` to heads of p + prod(ceil(grid / s)) tokens, `(b, h, n, d)`.

    Args:
        dim, heads: channels, and heads that they are shared out to.
        kernel, stride: of the convolution; zeros lie around the map.
        bias: of the linear layer; the convolution has none.
        norm: what follows the convolution.
        rank: axes of the grid.
    """

    def __init__(self, dim: int, *, heads: int, kernel: int, stride: int, bias: bool, norm: Spec, rank: int):
        super().__init__()
        self.heads, self.stride = heads, stride
        # The norm takes the size out of the filters, so that any deviation will do.
        self.conv = nn.Parameter(init.trunc_normal(torch.empty(dim, 1, *[kernel] * rank), kernel ** (-rank / 2)))
        self.norm = build(norm, "norm", dim=dim)
        self.linear = init.linear(dim, dim, bias)

    def forward(self, x: Float[Tensor, "b *grid c"], first: Float[Tensor, "b p c"]) -> Float[Tensor, "b h n d"]:
        convolve = CONVOLUTIONS[x.dim() - 2]
        half = self.conv.shape[-1] // 2
        y = convolve(x.movedim(-1, 1), self.conv, None, self.stride, half, 1, len(self.conv)).movedim(1, -1)
        tokens = torch.cat([first, self.norm(y).flatten(1, -2)], 1)
        return self.linear(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ConvProjectionAttention(TokenMixer):
    """Multi-head attention with q, k, v = Linear(BatchNorm(DepthwiseConv(x))), keys and values on a coarser map.

    Wu et al. 2021 (CvT), arXiv:2103.15808, section 3.2, equation 2. Convolutions tell neighbours apart, so that no
    positions are needed. Cost: 2 tokens^2 c / s^rank + (2 + 2 / s^rank) tokens c^2
    + (1 + 2 / s^rank) tokens kernel^rank c multiply-adds, with s the stride.

    Class tokens stand before a map's tokens in one sequence, skip the convolutions, and are queries, keys and values
    like the others; `forward` is then told the grid of the map. Tokens that `segments` calls padding are zero for the
    convolutions; keys of nothing but padding are not seen.

    Args:
        dim: channels.
        heads: attention heads.
        kernel: tokens along each axis that a filter covers; odd.
        stride: tokens along each axis for every key and value.
        bias: biases of queries, keys and values.
        norm: what follows each convolution.
        scoring: from scores to outputs, e.g. Spec("softmax").
        prefix: class tokens before the map.
        grid: the map's grid; decides its rank.

    Raises:
        OptionError: an even kernel; a stride below 1.
        SizeError: a sequence that is not as long as class tokens and map are.
    """

    name = "conv_projection"
    papers = ("cvt",)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kernel: int = 3,
        stride: int = 2,
        bias: bool = True,
        norm: Spec = Spec("batchnorm"),
        scoring: Spec = Spec("softmax"),
        prefix: int = 0,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0 or stride < 1:
            raise OptionError(
                f"{self.name} has an odd kernel, so that a filter has a middle, and a stride of 1 or more; "
                f"given kernel={kernel}, stride={stride}."
            )
        split_dim(dim, heads, None, self.name)
        self.num_prefix, self.stride = prefix, stride
        self.q, self.k, self.v = (
            ConvProjection(dim, heads=heads, kernel=kernel, stride=s, bias=bias, norm=norm, rank=len(grid))
            for s in (1, stride, stride)
        )
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """`grid`: that of the map behind class tokens, where there are any."""
        first, y = class_and_map(x, self.num_prefix, grid, self.name)
        mask = None
        if segments is not None:
            valid = segments.flat().valid
            inside = valid[:, self.num_prefix :].unflatten(1, tuple(y.shape[1:-1]))
            y = y.masked_fill(~inside[..., None], 0)
            mask = torch.cat([valid[:, : self.num_prefix], reduced(inside, self.stride).flatten(1)], 1)[:, None, None]
        z = self.scoring(self.q(y, first), self.k(y, first), self.v(y, first), mask=mask)
        return self.out(merge_heads(z)).view_as(x)


def class_and_map(
    x: Float[Tensor, "b *grid c"], prefix: int, grid: Sequence[int], part: str
) -> tuple[Float[Tensor, "b p c"], Float[Tensor, "b *grid c"]]:
    """Class tokens, and the map behind them, of a sequence; of a map without class tokens, none and the map.

    Raises `SizeError` for a sequence that is not as long as class tokens and map are.
    """
    tokens = x.flatten(1, -2)
    first, rest = tokens[:, :prefix], tokens[:, prefix:]
    grid = tuple(grid) if prefix or grid else tuple(x.shape[1:-1])
    if not grid or rest.shape[1] != math.prod(grid):
        raise SizeError(
            f"{part} was built for {prefix} class token(s) and a map; given {tokens.shape[1]} tokens and the grid "
            f"{grid}: a sequence that fits has prefix + height * width tokens, and forward is told "
            "grid=(height, width)."
        )
    return first, rest.unflatten(1, grid)
