"""From images (or maps) to fewer, wider tokens: a strided convolution, with or without overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.core.spec import Spec

Rest = Literal["pad", "drop", "refuse"]

CONVOLUTIONS = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}


class StridedConv(nn.Module):
    """A strided convolution of channels-last maps: `(b, *grid, c)` to `(b, *smaller, dim)`.

    Args:
        inputs, dim: channels in and out.
        kernel, stride, padding: along every axis.
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
        kernel: int,
        stride: int,
        padding: int = 0,
        rest: Rest = "pad",
        bias: bool = True,
        std: float | None = None,
        rank: int = 2,
        what: str = "patch embedding",
    ):
        super().__init__()
        self.kernel, self.stride, self.padding, self.what = kernel, stride, padding, what
        self.rest = rest if kernel == stride and not padding else "drop"
        self.weight = nn.Parameter(trunc_normal(torch.empty(dim, inputs, *[kernel] * rank), std))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes. Raises `SizeError` where it becomes nothing."""
        reach = self.kernel - 2 * self.padding
        least = max(reach, 1) if self.rest == "drop" else 1
        if self.rest == "refuse" and any(s % self.stride for s in size):
            near = [max(self.stride, round(s / self.stride) * self.stride) for s in size]
            raise SizeError(
                f"{self.what}: a map of {_by(size)} is not made of whole {_by([self.stride] * len(size))} patches; "
                f'sizes that fit are multiples of {self.stride}, the nearest {_by(near)}; or set rest="pad".'
            )
        if min(size) < least:
            raise SizeError(f"{self.what}: a map of {_by(size)} is too small; the least is {_by([least] * len(size))}.")
        if self.rest == "drop":
            return tuple((s - reach) // self.stride + 1 for s in size)
        return tuple(math.ceil(s / self.stride) for s in size)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        size = x.shape[1:-1]
        grid = self.grid(size)
        if self.rest == "pad" and any(g * self.stride != s for g, s in zip(grid, size, strict=True)):
            missing = [(0, g * self.stride - s) for g, s in zip(grid, size, strict=True)]
            x = nn.functional.pad(x, (0, 0, *(n for pair in reversed(missing) for n in pair)))
        y = CONVOLUTIONS[len(size)](x.movedim(-1, 1), self.weight, self.bias, self.stride, self.padding)
        return y.movedim(1, -1)


class PatchEmbedding(Part):
    """Images `(b, channels, *size)` to tokens `(b, *grid, dim)`, one linear map for every patch.

    Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1; with a kernel larger than the stride, patches overlap
    (PVT v2, PoolFormer).

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        size: side of a patch.
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
        size: int = 16,
        stride: int | None = None,
        padding: int = 0,
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


def _by(size: Sequence[int]) -> str:
    return "x".join(str(s) for s in size)
