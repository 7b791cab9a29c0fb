"""GC ViT's small residual convolution, and the gate inside that weighs channels by their means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.pooling.pools import MeanPool


class SqueezeExcite(nn.Module):
    """x * sigmoid(W2 act(W1 mean(x))): every channel weighed by what the whole grid holds. `(b, *grid, c)` to the same.

    Hu et al. 2017, arXiv:1709.01507, section 3. Padding is left out of the mean. Cost: 2 c hidden multiply-adds a
    sample.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        act: activation of the hidden channels.
        bias: biases of both layers.
        gate: from scores to weights, e.g. MobileNetV3's hard sigmoid (arXiv:1905.02244, section 5.3).
    """

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 0.25,
        hidden: int | None = None,
        act: Spec = Spec("gelu"),
        bias: bool = False,
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
    ):
        super().__init__()
        hidden = max(1, int(dim * ratio)) if hidden is None else hidden
        self.mean = MeanPool()
        self.down = init.linear(dim, hidden, bias=bias)
        self.act = build(act, "act")
        self.up = init.linear(hidden, dim, bias=bias)
        self.gate = gate

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        gate = self.gate(self.up(self.act(self.down(self.mean(x, segments)))))
        return x * gate.view(len(x), *[1] * (x.dim() - 2), -1)


class FusedMBConv(nn.Module):
    """x + W SE(act(DW(x))), DW a 3x3 depthwise convolution: `(b, *grid, c)` to the same shape.

    Hatamizadeh et al. 2022 (GC ViT), arXiv:2206.09959, equation 3, which calls it a modified Fused-MBConv.
    Cost: tokens (c^2 + 3^rank c) multiply-adds.

    Args:
        dim: channels.
        act: activation of the convolution and of the gate.
        grid: only its rank counts.
    """

    def __init__(self, dim: int, *, act: Spec = Spec("gelu"), grid: Sequence[int | None] = (None, None)):
        super().__init__()
        # Deviation 3^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(dim, kernel=3, bias=False, std=3 ** (-len(grid) / 2), grid=grid)
        self.act = build(act, "act")
        self.gate = SqueezeExcite(dim, act=act)
        self.project = init.linear(dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return x + self.project(self.gate(self.act(self.depthwise(x))))
