"""Between stages: a strided convolution that keeps channels apart."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.layers.embedding.patch import CONVOLUTIONS, StridedConv


class DepthwiseDownsample(Part):
    """A strided convolution of each channel alone, which becomes dim / inputs channels: `(b, *grid, inputs)` to dim.

    The pooling layer of Heo et al. 2021 (PiT), arXiv:2103.16302, section 3.2: kernel 3 at stride 2. Cost: smaller
    tokens dim kernel^rank multiply-adds.

    Args:
        inputs, dim: channels in and out; dim is a multiple of inputs.
        stride: how many times smaller the grid gets; the kernel is one more.
        rank: axes of the grid.
        what: who asks, for messages.

    Raises:
        OptionError: channels that are no multiple.
    """

    name = "depthwise_downsample"
    kind = "downsample"
    papers = ("sret",)
    tiny = {"inputs": 4}

    def __init__(self, inputs: int, dim: int, *, stride: int = 2, rank: int = 2, what: str = "downsampling"):
        super().__init__()
        if dim % inputs:
            raise OptionError(
                f"{what}: {self.name} makes as many channels of every channel, so there are a multiple of {inputs}; "
                f"given dim={dim}: take {max(1, round(dim / inputs)) * inputs}, or downsample='conv'."
            )
        self.inputs = inputs
        self.project = StridedConv(
            1, dim, kernel=stride + 1, stride=stride, padding=stride // 2, rest="drop", rank=rank, what=what
        )

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.project.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller d"]:
        conv = self.project
        conv.grid(x.shape[1:-1])
        y = CONVOLUTIONS[x.dim() - 2](
            x.movedim(-1, 1), conv.weight, conv.bias, conv.stride, conv.padding, 1, self.inputs
        )
        return y.movedim(1, -1)
