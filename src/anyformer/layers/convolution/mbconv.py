"""The mobile convolution of MOAT and CoAtNet: widen, convolve each channel alone, weigh channels, narrow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part, TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.reuse import over
from anyformer.layers.convolution.fused_mbconv import SqueezeExcite
from anyformer.layers.embedding.average import AverageDownsample
from anyformer.layers.embedding.patch import StridedConv

NORM = Spec("batchnorm", eps=1e-3, momentum=0.01)
"""TensorFlow's batch norm, which the authors' weights were trained with."""


def same_padded(x: Float[Tensor, "b *grid c"], kernel: int, stride: int) -> Float[Tensor, "b *larger c"]:
    """A map with zeros for a strided convolution to ceil(side / stride); where their number is odd, more at its end.

    TensorFlow's padding "same": at stride 2 and kernel 3, nothing before an even side and one row after it.
    """
    borders: list[int] = []
    for side in reversed(x.shape[1:-1]):
        missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        borders += [missing // 2, missing - missing // 2]
    return nn.functional.pad(x, (0, 0, *borders))


class Inverted(nn.Module):
    """W2 gate(act(norm(DW(act(norm(W1 x)))))): `(b, *grid, inputs)` to `(b, *ceil(grid / stride), dim)`.

    Args:
        inputs, dim: channels in and out.
        ratio: hidden channels per channel of the output.
        kernel, stride: of the depthwise convolution.
        excite: squeezed channels of the gate, per channel of the output; None for no gate.
        norm, act: after the first two layers.
        rank: axes of the grid.
    """

    folds: ClassVar[dict[str, str]] = {"expand": "expand_norm", "depthwise": "depthwise_norm"}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        ratio: float,
        kernel: int,
        stride: int,
        excite: float | None,
        norm: Spec,
        act: Spec,
        rank: int,
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.expand = init.linear(inputs, hidden, bias=False)
        self.expand_norm = build(norm, "norm", dim=hidden)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = StridedConv(
            hidden, hidden, kernel=kernel, stride=stride, groups=hidden, rest="drop", bias=False,
            std=kernel ** (-rank / 2), rank=rank, what="mbconv",
        )  # fmt: skip
        self.depthwise_norm = build(norm, "norm", dim=hidden)
        self.gate = None
        if excite is not None:
            self.gate = SqueezeExcite(hidden, hidden=max(1, int(dim * excite)), act=Spec("silu"), bias=True)
        self.shrink = init.linear(hidden, dim)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Float[Tensor, "b *grid i"], segments: Segments | None = None) -> Float[Tensor, "b *less c"]:
        x = over(self.act, over(self.expand_norm, self.expand(x)))
        x = x if segments is None else segments.zero(x)
        x = over(self.act, over(self.depthwise_norm, self.depthwise(same_padded(x, self.kernel, self.stride))))
        return self.shrink(x if self.gate is None else self.gate(x, segments))


class MBConv(TokenMixer):
    """Widen, convolve each channel alone, narrow, with a norm after the first two: `(b, *grid, c)` to the same shape.

    MobileNetV2's inverted residual (arXiv:1801.04381) as CoAtNet and MOAT have it: Yang et al. 2022 (MOAT),
    arXiv:2210.01820, section 2.1, whose norm before it is the block's. Outside the grid, and at padding, hidden tokens
    count as zero. Cost: tokens (2 ratio c^2 + ratio c kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        kernel: tokens along each axis that a filter covers; odd.
        excite: squeezed channels of a squeeze-and-excitation gate, per channel; None for none.
        norm, act: after the first two layers.
        grid: only its rank counts.
    """

    name = "mbconv"
    papers = ("moat",)
    tiny = {"ratio": 2.0, "excite": 0.5}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        excite: float | None = None,
        norm: Spec = NORM,
        act: Spec = Spec("gelu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        options = {"ratio": ratio, "kernel": kernel, "excite": excite, "norm": norm, "act": act}
        self.body = Inverted(dim, dim, stride=1, rank=len(grid), **options)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.body(x, segments)


class MBConvDownsample(Part):
    """A mobile convolution of stride 2 beside means of 2x2 neighbours: `(b, *grid, inputs)` to `(b, *half, dim)`.

    W mean(x) + MBConv(norm(x)), W where the channels change: how every stage of MOAT begins. Yang et al. 2022 (MOAT),
    arXiv:2210.01820, section 2.2. Odd sides are rounded up.

    Args:
        inputs, dim: channels in and out.
        ratio, kernel, excite, norm, act: as `MBConv`'s; `norm` also before it.
        rank: axes of the grid.
    """

    name = "mbconv_downsample"
    kind = "downsample"
    papers = ("moat",)
    tiny = {"inputs": 4, "ratio": 2.0}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        excite: float | None = None,
        norm: Spec = NORM,
        act: Spec = Spec("gelu"),
        rank: int = 2,
    ):
        super().__init__()
        options = {"ratio": ratio, "kernel": kernel, "excite": excite, "norm": norm, "act": act}
        self.average = AverageDownsample(inputs, inputs, norm=None, rank=rank)
        self.project = init.linear(inputs, dim) if inputs != dim else None
        self.norm = build(norm, "norm", dim=inputs)
        self.body = Inverted(inputs, dim, stride=2, rank=rank, **options)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.average.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *half c"]:
        shortcut = self.average(x)
        shortcut = shortcut if self.project is None else self.project(shortcut)
        return shortcut + self.body(self.norm(x))
