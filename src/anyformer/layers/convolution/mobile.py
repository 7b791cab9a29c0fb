"""The meta mobile block's inside: widen by a linear map or by attention, convolve beside a shortcut, narrow."""

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
from anyformer.kernels.reuse import over, overwritable
from anyformer.layers.convolution.depthwise import DepthwiseConv


class Mobile(TokenMixer):
    """W2 (h + act(norm(DW(h)))) with h = act(W1 x): widen, look at neighbours, narrow. `(b, *grid, c)` to the same.

    The one branch of a meta mobile block (MMBlock) with a linear map for its expansion: Zhang et al. 2024 (EMOv2),
    arXiv:2412.06674, section 3; attention instead is `SpanningWindowMobile`. Outside the grid, and at padding, hidden
    tokens count as zero for the convolution. Cost: tokens (2 ratio c^2 + ratio c kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        kernel: tokens along each axis that a filter covers; odd.
        act: of the widened tokens.
        local_norm, local_act: after the convolution.
        bias: of the expansion.
        grid: only its rank counts here.

    Raises:
        OptionError: an even kernel.
    """

    name = "mobile"
    papers = ("emo_v2",)
    tiny = {"ratio": 2.0, "kernel": 3}
    folds: ClassVar[dict[str, str]] = {"depthwise": "local_norm"}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        kernel: int = 5,
        act: Spec = Spec("silu"),
        local_norm: Spec = Spec("batchnorm", eps=1e-6),
        local_act: Spec = Spec("silu"),
        bias: bool = True,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.hidden = int(dim * ratio)
        self.widen = init.linear(dim, self.hidden, bias)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(
            self.hidden, kernel=kernel, bias=False, std=kernel ** (-len(grid) / 2), grid=grid
        )
        self.local_norm = build(local_norm, "norm", dim=self.hidden)
        self.local_act = build(local_act, "act")
        self.down = init.linear(self.hidden, dim, bias=False)

    def expand(self, x: Float[Tensor, "b *grid c"], segments: Segments | None) -> Float[Tensor, "b *grid h"]:
        """Tokens of more channels."""
        return over(self.act, self.widen(x))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        h = self.expand(x, segments)
        local = over(self.local_act, over(self.local_norm, self.depthwise(h, segments)))
        return self.down(local.add_(h) if overwritable(local, h) else h + local)
