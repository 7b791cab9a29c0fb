"""From images (or maps) to fewer, wider tokens: a strided convolution, with or without overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError, by
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.kernels.conv1d import conv1d

Rest = Literal["pad", "drop", "refuse"]


CONVOLUTIONS = {1: conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}


def each_axis(value: int | Sequence[int], rank: int, what: str) -> tuple[int, ...]:
    """A number for all axes, or one for each, as a tuple. Raises `OptionError` for another number of them."""
    each = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(each) != rank:
        raise OptionError(f"{what}: a number for all of {rank} axes, or one for each; given {value}.")
    return each


class StridedConv(nn.Module):
    """A strided convolution of channels-last maps: `(b, *grid, c)` to `(b, *smaller, dim)`.

    Args:
        inputs, dim: channels in and out.
        kernel, stride, padding: a number for all axes, or one for each.
        dilation: steps between the tokens that a filter covers.
        groups: shares of the channels that are convolved on their own; `inputs` for a depthwise convolution.
        rest: what happens to a map that patches (kernel = stride) do not divide: "pad" fills it with zeros at its
            end, "drop" leaves out its end, as a plain convolution does, and "refuse" raises `SizeError` with the sizes
            that fit.
        std: deviation of the first weights (None: what `core.init.starting` says).
        rank: axes of the grid.
        what: who asks, for messages.
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | Sequence[int] = 0,
        dilation: int = 1,
        groups: int = 1,
        rest: Rest = "pad",
        bias: bool = True,
        std: float | None = None,
        rank: int = 2,
        what: str = "patch embedding",
    ):
        super().__init__()
        kernels, self.strides = each_axis(kernel, rank, what), each_axis(stride, rank, what)
        paddings = each_axis(padding, rank, what)
        self.stride, self.padding, self.dilation, self.groups, self.what = stride, padding, dilation, groups, what
        self.reach = tuple(dilation * (k - 1) + 1 - 2 * p for k, p in zip(kernels, paddings, strict=True))
        self.rest = rest if kernels == self.strides == self.reach else "drop"
        self.weight = nn.Parameter(trunc_normal(torch.empty(dim, inputs // groups, *kernels), std))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes. Raises `SizeError` where it becomes nothing."""
        pairs = list(zip(size, self.strides, strict=True))
        least = [max(r, 1) if self.rest == "drop" else 1 for r in self.reach]
        if self.rest == "refuse" and any(s % step for s, step in pairs):
            near = [max(step, round(s / step) * step) for s, step in pairs]
            fit = by(self.strides) if len(set(self.strides)) > 1 else self.strides[0]
            raise SizeError(
                f"{self.what}: a map of {by(size)} is not made of whole {by(self.strides)} patches; "
                f'sizes that fit are multiples of {fit}, the nearest {by(near)}; or set rest="pad".'
            )
        if any(s < smallest for s, smallest in zip(size, least, strict=True)):
            raise SizeError(f"{self.what}: a map of {by(size)} is too small; the least is {by(least)}.")
        if self.rest == "drop":
            return tuple((s - reach) // step + 1 for (s, step), reach in zip(pairs, self.reach, strict=True))
        return tuple(math.ceil(s / step) for s, step in pairs)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        size = x.shape[1:-1]
        grid = self.grid(size)
        missing = [g * step - s for g, step, s in zip(grid, self.strides, size, strict=True)]
        if self.rest == "pad" and any(missing):
            x = nn.functional.pad(x, (0, 0, *(n for m in reversed(missing) for n in (0, m))))
        convolve = CONVOLUTIONS[len(size)]
        y = convolve(x.movedim(-1, 1), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return y.movedim(1, -1)


class PatchEmbedding(Part):
    """Images `(b, channels, *size)` to tokens `(b, *grid, dim)`, one linear map for every patch.

    Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1; with a kernel larger than the stride, patches overlap
    (PVT v2, PoolFormer).

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        size: side of a patch, or its sides along each axis.
        stride, padding: as a convolution's, where patches overlap (None: stride = size).
        act: activation of the tokens (ConvMixer).
        norm: norm of the tokens, after the activation.
        rest: what happens to an image that patches do not divide; see `StridedConv`.
        rank: axes of the image (2; 3 for video and volumes).
    """

    name = "patch"
    kind = "embed"
    papers = ("vit",)
    tiny = {"size": 2, "in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        size: int | Sequence[int] = 16,
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        act: Spec | None = None,
        norm: Spec | None = None,
        rest: Rest = "pad",
        bias: bool = True,
        rank: int = 2,
        what: str = "patch embedding",
    ):
        super().__init__()
        stride = size if stride is None else stride
        self.stride = stride
        self.project = StridedConv(
            in_channels, dim, kernel=size, stride=stride, padding=padding, rest=rest, bias=bias, rank=rank, what=what
        )
        self.act = build(act, "act") if act is not None else None
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.project.grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = self.project(images.movedim(1, -1))
        x = x if self.act is None else self.act(x)
        return x if self.norm is None else self.norm(x)


class ConvDownsample(Part):
    """Between stages: `(b, *grid, inputs)` to `(b, *smaller, dim)` by a strided convolution.

    Args:
        inputs, dim: channels in and out.
        kernel, stride, padding: of the convolution (padding None: none where kernel = stride, else half the kernel).
        norm_before, norm_after: norms around it (ConvNeXt before, PVT after).
        rest: as `PatchEmbedding`'s.
    """

    name = "conv"
    kind = "downsample"
    tiny = {"inputs": 8}
    folds: ClassVar[dict[str, str]] = {"project": "norm_after"}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int = 2,
        stride: int = 2,
        padding: int = 0,
        norm_before: Spec | None = None,
        norm_after: Spec | None = None,
        rest: Rest = "pad",
        bias: bool = True,
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.norm_before = build(norm_before, "norm", dim=inputs) if norm_before is not None else None
        self.project = StridedConv(
            inputs, dim, kernel=kernel, stride=stride, padding=padding, rest=rest, bias=bias, rank=rank, what=what
        )
        self.norm_after = build(norm_after, "norm", dim=dim) if norm_after is not None else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.project.grid(size)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        x = x if self.norm_before is None else self.norm_before(x)
        x = self.project(x)
        return x if self.norm_after is None else self.norm_after(x)
