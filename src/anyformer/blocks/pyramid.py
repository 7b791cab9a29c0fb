"""The pyramid skeleton: stages of blocks, each on a smaller grid with more channels (Swin, PVT, ConvNeXt)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start, trunc_normal
from anyformer.core.part import Part
from anyformer.core.spec import Spec, as_spec


class Stage(Part):
    """Downsample, add positions, repeat a block, norm: `(b, *grid, inputs)` to `(b, *smaller, dim)`.

    Args:
        dim, depth: channels and blocks of the stage.
        block: the block, or blocks that alternate.
        downsample: what comes first, e.g. Spec("merge"); None in a first stage.
        position: absolute positions of the stage (PVT).
        prefix: learned class tokens of the stage (PVT's last); they make its tokens a sequence.
        norm: norm of the stage's output.
        inputs, grid, first, layers, drop_path, dropout, index: from the pyramid.
    """

    name = "stage"
    kind = "stage"

    def __init__(
        self,
        dim: int,
        *,
        depth: int,
        block: Spec | Sequence[Spec],
        downsample: Spec | None = None,
        position: Spec | None = None,
        prefix: int = 0,
        norm: Spec | None = None,
        inputs: int | None = None,
        grid: Sequence[int] = (56, 56),
        first: int = 0,
        layers: int | None = None,
        drop_path: Sequence[float] = (),
        dropout: float = 0.0,
        index: int = 0,
    ):
        super().__init__()
        self.dim = dim
        self.downsample = None
        if downsample is not None:
            self.downsample = build(
                downsample, "downsample", inputs=inputs or dim, dim=dim, rank=len(grid), what=f"stage {index + 1}"
            )
            grid = self.downsample.grid(grid)
        self.grid = tuple(grid)
        self.num_prefix = prefix
        self.prefix = nn.Parameter(trunc_normal(torch.empty(prefix, dim), 0.02)) if prefix else None
        self.position = (
            build(position, "position", dim=dim, grid=self.grid, prefix=prefix) if position is not None else None
        )
        inner = (prefix + math.prod(self.grid),) if prefix else self.grid
        self.blocks = Stack(
            block, depth, dim=dim, grid=inner, drop_path=drop_path, first=first, layers=layers, dropout=dropout
        )
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """The stage's grid for an input grid of this size."""
        return tuple(size) if self.downsample is None else self.downsample.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        if self.downsample is not None:
            x = self.downsample(x)
        grid = tuple(x.shape[1:-1])
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(len(x), -1, -1).to(x.dtype), x.flatten(1, -2)], 1)
        if self.position is not None:
            x = self.position(x, grid=grid)
        x = self.mix(x)
        return x if self.norm is None else self.norm(x)

    def mix(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        """What the stage's blocks make of its tokens."""
        return self.blocks(x)


class Pyramid(ImageModel):
    """Embed, stages, norm, head. Images `(b, in_channels, *size)` to logits `(b, num_classes)`.

    Args:
        stages: Spec("stage", dim=..., depth=..., block=..., downsample=...) for each stage.
        embed: from image to the first stage's tokens.
        norm: norm of the last stage's output.
        head: e.g. Spec("classifier").
        image_size, in_channels, num_classes, drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "pyramid"
    papers = ("pvt", "swin")

    @chooses_start
    def __init__(
        self,
        *,
        stages: Sequence[Spec],
        embed: Spec = Spec("patch", size=4),
        norm: Spec | None = Spec("layernorm"),
        head: Spec = Spec("classifier"),
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        specs = [as_spec(s, "stages") for s in stages]
        dims = [s.options.get("dim", 0) for s in specs]
        depths = [s.options.get("depth", 0) for s in specs]
        rank = len(self.image_size)
        self.embed = build(embed, "embed", dim=dims[0], in_channels=in_channels, rank=rank, what="stage 1")
        grid = self.embed.grid(self.image_size)
        rates = growing(drop_path, sum(depths))
        self.stages = nn.ModuleList()
        inputs, first = dims[0], 0
        for i, spec in enumerate(specs):
            stage = build(
                spec,
                "stage",
                inputs=inputs,
                grid=grid,
                first=first,
                layers=sum(depths),
                drop_path=rates[first : first + depths[i]],
                dropout=dropout,
                index=i,
            )
            self.stages.append(stage)
            inputs, grid, first = stage.dim, stage.grid, first + depths[i]
        self.dropout = nn.Dropout(dropout)
        self.norm = build(norm, "norm", dim=inputs) if norm is not None else None
        self.head = build(head, "head", dim=inputs, num_classes=num_classes)

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens after the last stage and norm: `(b, *grid, c)`, or `(b, prefix + n, c)` with class tokens."""
        x = self.dropout(self.embed(images))
        for stage in self.stages:
            x = stage(x)
        return x if self.norm is None else self.norm(x)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes"]:
        return self.head(self.tokens(images), prefix=self.stages[-1].num_prefix)

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps `(b, c, *grid)` after every stage, finest first, or after the chosen stages; before the last norm."""
        x = self.dropout(self.embed(images))
        maps = []
        for stage in self.stages:
            grid = stage.grid_of(x.shape[1:-1])
            x = stage(x)
            y = x.flatten(1, -2)[:, stage.num_prefix :].unflatten(1, grid)
            maps.append(channels_first(y))
        chosen = range(len(maps)) if layers is None else layers
        if any(not -len(maps) <= i < len(maps) for i in chosen):
            raise OptionError(f"this model has stages 0 to {len(maps) - 1}; given layers={layers}.")
        return [maps[i] for i in chosen]
