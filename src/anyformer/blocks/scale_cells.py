"""From images to one token for each cell of a coarse grid, out of a convolutional trunk's maps of several scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.decode import ConvNorm
from anyformer.blocks.stack import Stack
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import plan, tile

LARGEST = {1: nn.functional.adaptive_max_pool1d, 2: nn.functional.adaptive_max_pool2d}
LARGEST[3] = nn.functional.adaptive_max_pool3d


class MapsToken(nn.Module):
    """A token for each cell from maps of all scales: `(b, *grid_i, c_i)` to `(b, *coarse, dim)`.

    Maps are halved by plain 3x3 convolutions until cells have two places along each axis, max-pooled to the coarse
    grid, put side by side, and pass four 3x3 convolutions with batch norm and ReLU.

    Args:
        dim: channels of the token.
        widths: channels of the maps.
        sides: places of a cell along each axis in every map.
        rank: axes of the grid.
    """

    def __init__(self, dim: int, *, widths: Sequence[int], sides: Sequence[int], rank: int):
        super().__init__()
        self.halve = nn.ModuleList(
            nn.Sequential(
                *(
                    ConvNorm(width, width, stride=2, norm=None, act=None, bias=True, rank=rank)
                    for _ in range(max(0, side.bit_length() - 2))
                )
            )
            for width, side in zip(widths, sides, strict=True)
        )
        channels = [sum(widths), dim, dim, dim, dim]
        self.join = nn.Sequential(*(ConvNorm(channels[i], dim, bias=True, rank=rank) for i in range(4)))

    def forward(self, maps: Sequence[Tensor], coarse: Sequence[int]) -> Float[Tensor, "b *coarse c"]:
        pooled = []
        for halve, x in zip(self.halve, maps, strict=True):
            y = halve(x).movedim(-1, 1)
            pooled.append(LARGEST[len(coarse)](y, tuple(coarse)).movedim(1, -1))
        return self.join(torch.cat(pooled, -1))


class ScaleCells(Part):
    """Maps of a trunk's stages, cut on the grid of the coarsest; attention inside each cell over all its places.

    Every map is projected to `dim` channels. A cell has side^rank places in each map, S in all (64 + 16 + 4 + 1 for the
    four stages of a ResNet); blocks mix the places of a cell, within and across scales, and its scale token, which
    comes first, becomes the cell's token. Tang et al. 2025 (DuoFormer), arXiv:2506.12982: multi-scale patch
    tokenization, scale token and scale-wise attention. Cost: the trunk's, and cells times the blocks' over S + 1
    tokens.

    Args:
        dim: channels of a token.
        trunk: a pyramid, e.g. the Spec of a ResNet.
        stages: whose maps are used; the last one's grid is that of the cells.
        depth, block: the blocks inside cells.
        token: what is put before a cell's places: "maps": a `MapsToken`; "learned": one learned vector for all cells;
            None: nothing, and the mean of a cell's places becomes its token.
        in_channels: channels of the image.
        rank: axes of the image.
        what: who asks, for messages.

    Raises:
        OptionError: no stage; stages that the trunk does not have, or not from fine to coarse; a scale token without
            blocks.
        SizeError: an image for which a stage's map is not made of whole cells; the stage is named.
    """

    name = "scale_cells"
    kind = "embed"
    papers = ("duoformer",)
    tiny = {
        "trunk": Spec(
            "pyramid",
            embed=Spec("patch", size=2),
            stages=(
                Spec("stage", dim=4, depth=0, block=Spec("basic_block")),
                Spec("stage", dim=6, depth=0, block=Spec("basic_block"), downsample=Spec("conv")),
            ),
            norm=None,
            image_size=16,
        ),
        "stages": (0, 1),
        "depth": 1,
        "block": Spec("prenorm", mixer=Spec("attention", heads=2)),
        "in_channels": 3,
    }

    def __init__(
        self,
        dim: int,
        *,
        trunk: Spec,
        stages: Sequence[int] = (0, 1, 2, 3),
        depth: int = 12,
        block: Spec = Spec("prenorm", mixer=Spec("attention", heads=12), norm=Spec("layernorm", eps=1e-6)),
        token: Literal["maps", "learned"] | None = "maps",
        in_channels: int = 3,
        rank: int = 2,
        what: str = "scale cells",
    ):
        super().__init__()
        self.what = what
        self.trunk = build(trunk.set(in_channels=in_channels, num_classes=0), "model")
        known = len(self.trunk.stages)
        if not stages or list(stages) != sorted(set(stages)) or not 0 <= stages[0] <= stages[-1] < known:
            raise OptionError(
                f"{what}: the trunk has stages 0 to {known - 1}; give one or more of them from fine to coarse, as in "
                f"(0, 1); given {tuple(stages)}."
            )
        if token is not None and not depth:
            raise OptionError(
                f"{what}: a scale token collects what the blocks inside cells find, and there are none (depth=0): "
                "take token=None, or a depth of 1 or more."
            )
        self.stages = tuple(stages)
        grids = self._grids(self.trunk.image_size)
        self.sides = tuple(grid[0] // grids[-1][0] for grid in grids)
        self.pixels = self.trunk.image_size[0] // grids[-1][0]
        widths = [self.trunk.stages[i].dim for i in self.stages]
        self.project = nn.ModuleList(init.linear(width, dim) for width in widths)
        self.maps = MapsToken(dim, widths=widths, sides=self.sides, rank=rank) if token == "maps" else None
        self.token = nn.Parameter(trunc_normal(torch.empty(dim), 0.036)) if token == "learned" else None
        self.places = sum(side**rank for side in self.sides)
        length = self.places + (token is not None)
        self.position = build(Spec("learned", std=0.036), "position", dim=dim, grid=(length,)) if depth else None
        self.blocks = Stack(block, depth, dim=dim, grid=(length,))

    def _grids(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """Grids of the stages' maps for an image of this size."""
        grid, found = self.trunk.embed.grid(size), []
        for i, stage in enumerate(self.trunk.stages):
            grid = stage.grid_of(grid)
            if i in self.stages:
                found.append(grid)
        return found

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of cells of an image of this size. Raises `SizeError` where a map is not made of whole cells."""
        grids = self._grids(size)
        for stage, side, grid in zip(self.stages, self.sides, grids, strict=True):
            if any(g != side * c for g, c in zip(grid, grids[-1], strict=True)):
                by = "x".join
                raise SizeError(
                    f"{self.what}: an image of {by(map(str, size))} has a map of {by(map(str, grid))} in stage {stage} "
                    f"of the trunk, which is not made of {by(map(str, grids[-1]))} whole cells of {side} places along "
                    f"each axis; images that fit have sides that are multiples of {self.pixels}."
                )
        return grids[-1]

    def tokenized(self, maps: Sequence[Float[Tensor, "b *grid c"]]) -> Float[Tensor, "b cells s d"]:
        """The places of every cell, `(b, cells, S, dim)`, the coarsest map's first; without the scale token."""
        cut = [
            tile(project(x), plan(x.shape[1:-1], (side,) * (x.dim() - 2), (0,) * (x.dim() - 2)))
            for project, side, x in zip(self.project, self.sides, maps, strict=True)
        ]
        return torch.cat(cut[::-1], 2)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *cells c"]:
        coarse = self.grid(images.shape[2:])
        maps = [x.movedim(1, -1) for x in self.trunk.features(images, layers=self.stages)]
        x = self.tokenized(maps)
        first = None
        if self.maps is not None:
            first = self.maps(maps, coarse).flatten(1, -2)[:, :, None]
        elif self.token is not None:
            first = self.token.expand(len(x), math.prod(coarse), 1, -1).to(x.dtype)
        if first is not None:
            x = torch.cat([first, x], 2)
        b = len(x)
        x = x.flatten(0, 1)
        x = self.blocks(x if self.position is None else self.position(x))
        x = x.mean(1) if first is None else x[:, 0]
        return x.view(b, *coarse, -1)
