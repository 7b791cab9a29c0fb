"""Widen, convolve each channel alone, narrow, with a norm after every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.reuse import over
from anyformer.layers.convolution.depthwise import DepthwiseConv


class InvertedBottleneck(TokenMixer):
    """norm(W2 act(norm(DW(act(norm(W1 x)))))): MobileNetV2's block without its shortcut, as a token mixer.

    Sandler et al. 2018, arXiv:1801.04381, section 3.4; the MBConv of TinyViT's first stage (arXiv:2207.10666, section
    3.2), where the last norm starts at zero. Outside the grid, and at padding, tokens count as zero. Cost: tokens
    (2 ratio c^2 + ratio c kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        kernel: tokens along each axis that a filter covers; odd.
        norm: after each of the three layers.
        act: after the first two.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel.
    """

    name = "inverted_bottleneck"
    papers = ("tiny_vit",)
    tiny = {"ratio": 2.0}
    folds: ClassVar[dict[str, str]] = {"up": "up_norm", "depthwise": "depthwise_norm", "down": "down_norm"}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("gelu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.up = init.linear(dim, hidden, bias=False)
        self.up_norm = build(norm, "norm", dim=hidden)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(hidden, kernel=kernel, bias=False, std=kernel ** (-len(grid) / 2), grid=grid)
        self.depthwise_norm = build(norm, "norm", dim=hidden)
        self.down = init.linear(hidden, dim, bias=False)
        self.down_norm = build(norm, "norm", dim=dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        hidden = over(self.act, over(self.up_norm, self.up(x)))
        hidden = over(self.act, over(self.depthwise_norm, self.depthwise(hidden, segments)))
        return over(self.down_norm, self.down(hidden))
