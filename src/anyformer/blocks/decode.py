"""Decode heads: from the maps of a backbone to one score per class and pixel, at the finest map's resolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""The interpolation that is linear along every axis, by the number of axes."""


class DecodeHead(Part):
    """Maps `(b, dims[i], *grid[i])`, finest first, to scores `(b, num_classes, *grid[0])`.

    The constructor gets `dims`, `num_classes` and `rank` (axes of the grids) from the model.
    """

    kind = "decode_head"

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError


class ConvNorm(nn.Module):
    """Convolution, norm, activation (None: without): `(b, *grid, inputs)` to `(b, *grid / stride, dim)`."""

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        norm: Spec | None = Spec("batchnorm"),
        act: Spec | None = Spec("relu"),
        bias: bool = False,
        rank: int = 2,
    ):
        super().__init__()
        self.conv = StridedConv(
            inputs, dim, kernel=kernel, stride=stride, padding=kernel // 2, bias=bias, rank=rank, what="convolution"
        )
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.act = build(act, "act") if act is not None else None

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return x if self.act is None else self.act(x)


class MLPDecoder(DecodeHead):
    """A linear map of each level, all brought to the finest grid, joined by a linear map, norm and ReLU.

    classify(act(norm(fuse([up(W_n x_n), ..., W_1 x_1])))): the all-MLP decoder of Xie et al. 2021 (SegFormer),
    arXiv:2105.15203, equation 4; over volumes, with normed levels, Perera et al. 2024 (SegFormer3D), arXiv:2404.10156,
    section 3.2. Any number of maps. Cost: finest tokens dim (levels dim + dims[0] + num_classes) multiply-adds.

    Args:
        dims: channels of the maps, finest first.
        num_classes: classes.
        dim: channels of every level and of their sum.
        norm_levels: norm of each level after its linear map (SegFormer3D).
        norm: norm after the fusion.
        act: activation after it.
        dropout: share of the fused channels dropped in training.
        rank: axes of the grids.
    """

    name = "mlp_decoder"
    papers = ("segformer3d",)
    tiny = {"dims": (6, 4)}

    def __init__(
        self,
        dims: Sequence[int],
        *,
        num_classes: int = 2,
        dim: int = 256,
        norm_levels: Spec | None = None,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        dropout: float = 0.0,
        rank: int = 2,
    ):
        super().__init__()
        self.rank = rank
        self.levels = nn.ModuleList(init.linear(inputs, dim) for inputs in dims)
        self.level_norms = nn.ModuleList(build(norm_levels, "norm", dim=dim) for _ in dims if norm_levels is not None)
        self.fuse = init.linear(dim * len(dims), dim, bias=False)
        self.norm = build(norm, "norm", dim=dim)
        self.act = build(act, "act")
        self.dropout = nn.Dropout(dropout)
        self.classify = init.linear(dim, num_classes)

    def forward(self, maps: Sequence[Float[Tensor, "b c *grid"]]) -> Float[Tensor, "b classes *grid"]:
        size = maps[0].shape[2:]
        levels = []
        for i, (level, x) in enumerate(zip(self.levels, maps, strict=True)):
            y = level(x.movedim(1, -1))
            levels.append(resized((self.level_norms[i](y) if len(self.level_norms) else y).movedim(-1, 1), size))
        # The authors put the coarsest first.
        x = self.act(self.norm(self.fuse(torch.cat(levels[::-1], 1).movedim(1, -1))))
        return self.classify(self.dropout(x)).movedim(-1, 1)


class FPNDecoder(DecodeHead):
    """A feature pyramid: from the coarsest map down, each is added to a linear map of the next; then a convolution.

    Lin et al. 2017 (FPN), arXiv:1612.03144, section 3, with the finest level alone read out. Any number of maps.
    Cost: finest tokens (dims[0] dim + 9 dim^2 + dim num_classes), and the laterals of the coarser ones.

    Args:
        dims: channels of the maps, finest first.
        num_classes: classes.
        dim: channels of every level.
        norm: norm after the convolution.
        dropout: share of the channels dropped in training.
        rank: axes of the grids.
    """

    name = "fpn_decoder"
    tiny = {"dims": (6, 4), "dim": 8}

    def __init__(
        self,
        dims: Sequence[int],
        *,
        num_classes: int = 2,
        dim: int = 256,
        norm: Spec = Spec("batchnorm"),
        dropout: float = 0.0,
        rank: int = 2,
    ):
        super().__init__()
        self.lateral = nn.ModuleList(init.linear(inputs, dim) for inputs in dims)
        self.smooth = ConvNorm(dim, dim, norm=norm, rank=rank)
        self.dropout = nn.Dropout(dropout)
        self.classify = init.linear(dim, num_classes)

    def forward(self, maps: Sequence[Float[Tensor, "b c *grid"]]) -> Float[Tensor, "b classes *grid"]:
        levels = [side(x.movedim(1, -1)).movedim(-1, 1) for side, x in zip(self.lateral, maps, strict=True)]
        for coarser, finer in pairwise(reversed(range(len(levels)))):
            levels[finer] = levels[finer] + resized(levels[coarser], levels[finer].shape[2:], "nearest")
        return self.classify(self.dropout(self.smooth(levels[0].movedim(1, -1)))).movedim(-1, 1)


def resized(
    x: Float[Tensor, "b c *grid"],
    size: Sequence[int],
    mode: Literal["linear", "nearest"] = "linear",
    align_corners: bool = False,
) -> Float[Tensor, "b c *size"]:
    """The map at another size, linear along every axis or by the nearest token; as it is where it has that size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if mode == "nearest":
        return nn.functional.interpolate(x, size=tuple(size), mode="nearest")
    return nn.functional.interpolate(x, size=tuple(size), mode=LINEAR[len(size)], align_corners=align_corners)
