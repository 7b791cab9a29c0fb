"""Residual blocks whose branch ends in an activation of its own: the encoders of flow and stereo models."""

from __future__ import annotations

from torch import nn

from anyformer.blocks.decode import ConvNorm
from anyformer.blocks.resnet import BasicBlock, BasicStart
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec


def basic(inputs: int, dim: int, stride: int, norm: Spec | None, act: Spec, rank: int, ratio: int) -> nn.Sequential:
    """Two 3x3 convolutions, the first with the stride; norm and activation behind both."""
    place = {"norm": norm, "act": act, "bias": True, "rank": rank}
    return nn.Sequential(ConvNorm(inputs, dim, stride=stride, **place), ConvNorm(dim, dim, **place))


def narrowed(inputs: int, dim: int, stride: int, norm: Spec | None, act: Spec, rank: int, ratio: int) -> nn.Sequential:
    """1x1 down to dim / ratio, 3x3 with the stride, 1x1 up to dim; norm and activation behind all."""
    if dim % ratio:
        raise OptionError(f"a bottleneck has a multiple of {ratio} channels; given dim={dim}.")
    place = {"norm": norm, "act": act, "bias": True, "rank": rank}
    return nn.Sequential(
        ConvNorm(inputs, dim // ratio, kernel=1, **place),
        ConvNorm(dim // ratio, dim // ratio, stride=stride, **place),
        ConvNorm(dim // ratio, dim, kernel=1, **place),
    )


class RectifiedBlock(BasicBlock):
    """act(x + act(norm(conv3x3(act(norm(conv3x3(x))))))): what is added is never negative.

    Teed and Deng 2020 (RAFT), arXiv:2003.12039, figure 7. Arguments as `BasicBlock`'s; convolutions have biases.
    """

    name = "rectified_block"
    papers = ("raft",)
    body = staticmethod(basic)


class RectifiedBottleneck(BasicBlock):
    """`RectifiedBlock` with 1x1, 3x3 and 1x1 convolutions, a quarter as wide inside; as in RAFT's small model."""

    name = "rectified_bottleneck"
    papers = ("raft",)
    body = staticmethod(narrowed)
    ratio = 4


class RectifiedStart(BasicStart):
    """A `RectifiedBlock` from `inputs` to `dim` channels at a stride; its shortcut is a 1x1 convolution with norm.

    `(b, *grid, inputs)` to `(b, *grid / stride, dim)`. Arguments as `BasicStart`'s.
    """

    name = "rectified_start"
    papers = ("raft",)
    body = staticmethod(basic)
    bias = True


class RectifiedBottleneckStart(RectifiedStart):
    """A `RectifiedBottleneck` from `inputs` to `dim` channels at a stride. Arguments as `BasicStart`'s."""

    name = "rectified_bottleneck_start"
    body = staticmethod(narrowed)
    ratio = 4
