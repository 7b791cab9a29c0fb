"""ResNet's stages begun without aliasing: means, and not strides, make the map smaller."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.resnet import BottleneckStart
from anyformer.core.spec import Spec
from anyformer.layers.pooling.mixing import AVERAGES


class AntialiasedBottleneckStart(BottleneckStart):
    """A bottleneck that averages `stride` x `stride` tokens, behind its 3x3 convolution and before its shortcut's 1x1.

    Radford et al. 2021 (CLIP), arXiv:2103.00020, section 2.4, after Zhang 2019, arXiv:1904.11486 (rect-2).
    `(b, *grid, inputs)` to `(b, *grid / stride, dim)`; what does not divide is left out.

    Args:
        inputs, dim: channels in and out.
        stride: tokens along each axis that are averaged.
        norm, act, rank: as `BottleneckStart`'s.
    """

    name = "antialiased_bottleneck_start"
    papers = ()
    tiny = {"inputs": 8}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        stride: int = 2,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
    ):
        super().__init__(inputs, dim, stride=1, norm=norm, act=act, rank=rank)
        self.stride = stride

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(s // self.stride for s in size)

    def averaged(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller c"]:
        """The means of `stride` x `stride` tokens."""
        return x if self.stride == 1 else AVERAGES[x.dim() - 2](x.movedim(-1, 1), self.stride).movedim(1, -1)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        narrow, spread, widen = self.layers
        return self.act(self.shortcut(self.averaged(x)) + widen(self.averaged(spread(narrow(x)))))
