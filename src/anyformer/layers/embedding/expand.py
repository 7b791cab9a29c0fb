"""From tokens to more and finer ones: linear expansion, transposed convolution, pixel shuffle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.layers.embedding.patch import StridedConv

TRANSPOSED = {
    1: nn.functional.conv_transpose1d,
    2: nn.functional.conv_transpose2d,
    3: nn.functional.conv_transpose3d,
}


class Upsample(Part):
    """Every token becomes factor^rank finer ones: `(b, *grid, inputs)` to `(b, *grid * factor, dim)`.

    `size` cuts the finer grid, where the coarser one was padded.
    """

    kind = "upsample"

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        raise NotImplementedError


class Expand(Upsample):
    """A linear map to factor^rank tokens: the inverse of patch merging.

    Cost: tokens inputs dim factor^rank multiply-adds.

    Args:
        inputs, dim: channels in and out.
        factor: finer tokens per token along each axis.
        rank: axes of the grid.
    """

    name = "expand"
    tiny = {"inputs": 8}

    def __init__(self, inputs: int, dim: int, *, factor: int = 2, rank: int = 2):
        super().__init__()
        self.factor = factor
        self.project = init.linear(inputs, dim * factor**rank)

    def forward(self, x: Float[Tensor, "b *grid i"], size: Sequence[int] | None = None) -> Float[Tensor, "b *finer c"]:
        factors = [self.factor] * (x.dim() - 2)
        return spread(self.project(x).unflatten(-1, (*factors, -1)).movedim(-1, 1 - x.dim()), size)


class TransposedConv(Upsample):
    """A transposed convolution whose kernel is its stride, so that finer tokens of one token share a bias only.

    Uformer's (Wang et al. 2021, arXiv:2106.03106, section 3.1) and U-Net's (arXiv:1505.04597) way up. Cost as
    `Expand`'s. Arguments as `Expand`'s.
    """

    name = "transposed_conv"
    papers = ("uformer",)
    tiny = {"inputs": 8}

    def __init__(self, inputs: int, dim: int, *, factor: int = 2, rank: int = 2):
        super().__init__()
        self.factor = factor
        # A finer token has one token as its input, whatever the kernel: `inputs` numbers.
        weight = torch.empty(inputs, dim, *[factor] * rank)
        self.weight = nn.Parameter(trunc_normal(weight, None if init.published() else inputs**-0.5))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b *grid i"], size: Sequence[int] | None = None) -> Float[Tensor, "b *finer c"]:
        y = TRANSPOSED[x.dim() - 2](x.movedim(-1, 1), self.weight, self.bias, self.factor).movedim(1, -1)
        return cut(y, size)


class PixelShuffle(Upsample):
    """A 3^rank convolution to factor^rank times as many channels, which become finer tokens.

    Sub-pixel convolution: Shi et al. 2016, arXiv:1609.05158, equation 4. Cost: tokens inputs dim (3 factor)^rank
    multiply-adds. Arguments as `Expand`'s.
    """

    name = "pixel_shuffle"
    tiny = {"inputs": 8}

    def __init__(self, inputs: int, dim: int, *, factor: int = 2, rank: int = 2):
        super().__init__()
        self.factor = factor
        self.conv = StridedConv(
            inputs, dim * factor**rank, kernel=3, stride=1, padding=1, rank=rank, what="pixel shuffle"
        )

    def forward(self, x: Float[Tensor, "b *grid i"], size: Sequence[int] | None = None) -> Float[Tensor, "b *finer c"]:
        return spread(self.conv(x).unflatten(-1, (-1, *[self.factor] * (x.dim() - 2))), size)


def spread(x: Float[Tensor, "b *grid c *factors"], size: Sequence[int] | None = None) -> Float[Tensor, "b *finer c"]:
    """The finer tokens of every token, laid out beside each other and cut to `size`."""
    rank = (x.dim() - 2) // 2
    grid, factors = x.shape[1 : 1 + rank], x.shape[2 + rank :]
    order = [0, *(axis for i in range(rank) for axis in (1 + i, 2 + rank + i)), 1 + rank]
    x = x.permute(order).reshape(len(x), *(g * f for g, f in zip(grid, factors, strict=True)), -1)
    return cut(x, size)


def cut(x: Float[Tensor, "b *grid c"], size: Sequence[int] | None) -> Float[Tensor, "b *smaller c"]:
    """The first `size` tokens along each axis."""
    return x if size is None else x[(slice(None), *(slice(s) for s in size))]
