"""A depthwise convolution between two linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.feedforward.mlp import activated


class SeparableConv(TokenMixer):
    """W2 DW(act(W1 x)): widen, convolve each channel alone, narrow.

    The inverted separable convolution of MobileNetV2 (arXiv:1801.04381) as a token mixer: Yu et al. 2022 (ConvFormer),
    arXiv:2210.13452. Cost: tokens (2 ratio c^2 + ratio c kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        kernel: tokens along each axis that a filter covers; odd.
        act: activation before the convolution.
        bias: biases of all three layers.
        grid: only its rank counts.
    """

    name = "separable"
    papers = ("metaformer_baselines",)
    tiny = {"kernel": 3}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 2.0,
        kernel: int = 7,
        act: Spec = Spec("star_relu"),
        bias: bool = False,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.up = init.linear(dim, hidden, bias)
        self.act = build(act, "act")
        self.depthwise = DepthwiseConv(hidden, kernel=kernel, bias=bias, grid=grid)
        self.down = init.linear(hidden, dim, bias)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.down(self.depthwise(activated(self.up, self.act, x), segments))
