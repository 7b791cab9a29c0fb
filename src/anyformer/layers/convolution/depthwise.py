"""A filter per channel that slides over the grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.layers.embedding.patch import CONVOLUTIONS


class DepthwiseConv(TokenMixer):
    """y_p = b + sum_d w_d * x_(p + d): every channel with its own filter of `kernel` tokens along each axis.

    ConvNeXt's mixer (Liu et al. 2022, arXiv:2201.03545, section 2.5) and ConvMixer's (Trockman and Kolter 2022,
    arXiv:2201.09792, equation 2). Outside the grid, and at padding, tokens count as zero.
    Cost: tokens kernel^rank c multiply-adds. Ranks 1 to 3, any grid.

    Args:
        dim: channels.
        kernel: tokens along each axis that a filter covers; odd, so that the grid stays as it is.
        dilation: steps between the tokens that a filter covers; 1 for neighbours.
        bias: a bias per channel.
        std: deviation of the first weights.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel; a dilation below 1.
    """

    name = "depthwise"
    papers = ("convnext", "convmixer")
    tiny = {"kernel": 3}

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 7,
        dilation: int = 1,
        bias: bool = True,
        std: float = 0.02,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise OptionError(
                f"depthwise.kernel is odd, so that as many tokens lie before as after; given {kernel}: take "
                f"{max(kernel - 1, 1)} or {max(kernel, 0) + 1}."
            )
        if dilation < 1:
            raise OptionError(f"depthwise.dilation is 1 or more; given {dilation}.")
        self.dilation = dilation
        self.weight = nn.Parameter(trunc_normal(torch.empty(dim, 1, *[kernel] * len(grid)), std))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        convolve = CONVOLUTIONS[x.dim() - 2]
        half = self.dilation * (self.weight.shape[-1] // 2)
        y = convolve(x.movedim(-1, 1), self.weight, self.bias, 1, half, self.dilation, len(self.weight))
        return y.movedim(1, -1)
