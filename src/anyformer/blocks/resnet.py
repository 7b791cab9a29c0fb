"""ResNet's blocks: convolutions around a shortcut, and the same at the start of a stage, where the shape changes."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.block import Block
from anyformer.blocks.decode import ConvNorm
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


def basic(inputs: int, dim: int, stride: int, norm: Spec | None, act: Spec, rank: int, ratio: int) -> nn.Sequential:
    """Two 3x3 convolutions, the first with the stride."""
    return nn.Sequential(
        ConvNorm(inputs, dim, stride=stride, norm=norm, act=act, rank=rank),
        ConvNorm(dim, dim, norm=norm, act=None, rank=rank),
    )


def bottleneck(
    inputs: int, dim: int, stride: int, norm: Spec | None, act: Spec, rank: int, ratio: int
) -> nn.Sequential:
    """1x1 down to dim / ratio, 3x3 with the stride, 1x1 up to dim."""
    if dim % ratio:
        raise OptionError(f"a bottleneck has a multiple of {ratio} channels; given dim={dim}.")
    return nn.Sequential(
        ConvNorm(inputs, dim // ratio, kernel=1, norm=norm, act=act, rank=rank),
        ConvNorm(dim // ratio, dim // ratio, stride=stride, norm=norm, act=act, rank=rank),
        ConvNorm(dim // ratio, dim, kernel=1, norm=norm, act=None, rank=rank),
    )


class BasicBlock(Block):
    """act(x + norm(conv3x3(act(norm(conv3x3(x)))))). He et al. 2015, arXiv:1512.03385, figure 5, left.

    Args:
        dim: channels.
        norm: norm behind each convolution; None for none.
        act: activation.
        residual: how the branch joins the stream.
        grid, drop_path, dropout: from the stack.
    """

    name = "basic_block"
    papers = ("group_detr",)
    body = staticmethod(basic)
    ratio = 1

    def __init__(
        self,
        dim: int,
        *,
        norm: Spec | None = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        residual: Spec = Spec("add"),
        grid: Sequence[int | None] | None = None,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        rank = 2 if grid is None else len(grid)
        self.layers = self.body(dim, dim, 1, norm, act, rank, self.ratio)
        self.act = build(act, "act")
        self.residual = build(residual, "residual", dim=dim, drop_path=drop_path, dropout=dropout)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.act(self.residual(x, self.layers(x)))


class Bottleneck(BasicBlock):
    """act(x + conv1x1, conv3x3, conv1x1 of x, each normed), narrowed to a quarter inside.

    He et al. 2015, arXiv:1512.03385, figure 5, right. Arguments as `BasicBlock`'s.
    """

    name = "bottleneck"
    body = staticmethod(bottleneck)
    ratio = 4


class BasicStart(Part):
    """A `BasicBlock` from `inputs` to `dim` channels at a stride, its shortcut a 1x1 convolution with norm.

    He et al. 2015, arXiv:1512.03385, section 3.3, option B. `(b, *grid, inputs)` to `(b, *grid / stride, dim)`.

    Args:
        inputs, dim: channels in and out.
        stride: of the first 3x3 convolution and of the shortcut.
        norm, act: as `BasicBlock`'s.
        rank: axes of the grid.
    """

    name = "basic_start"
    kind = "downsample"
    papers = ("group_detr",)
    tiny = {"inputs": 8}
    body = staticmethod(basic)
    ratio = 1
    bias = False

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        stride: int = 2,
        norm: Spec | None = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
    ):
        super().__init__()
        self.layers = self.body(inputs, dim, stride, norm, act, rank, self.ratio)
        self.shortcut = ConvNorm(inputs, dim, kernel=1, stride=stride, norm=norm, act=None, bias=self.bias, rank=rank)
        self.act = build(act, "act")

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.shortcut.conv.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        return self.act(self.shortcut(x) + self.layers(x))


class BottleneckStart(BasicStart):
    """A `Bottleneck` from `inputs` to `dim` channels at a stride, its shortcut a 1x1 convolution with norm.

    The stride is the 3x3 convolution's (as in torchvision and timm, "v1.5"). Arguments as `BasicStart`'s.
    """

    name = "bottleneck_start"
    body = staticmethod(bottleneck)
    ratio = 4
