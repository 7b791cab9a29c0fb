"""The block that opens a stage with a quarter of the tokens, and the stage that it opens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.pyramid import Stage
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.pooled_query import PooledQueryAttention
from anyformer.layers.embedding.pooled_stem import POOLS
from anyformer.layers.pooling.mixing import AVERAGES


class PooledQueryBlock(Part):
    """A pre-norm block whose attention pools its queries: `(b, *grid, inputs)` to `(b, *grid / 2, dim)`.

    Ryali et al. 2023 (Hiera), arXiv:2306.00989, section 3.2: the stream is mapped to `dim` channels after the norm
    and pooled by its largest values as the queries are.

    Args:
        inputs, dim: channels in and out.
        heads: attention heads.
        window: side of the mask units of the finer grid in tokens, an even number; None attends everywhere.
        shortcut: the stream's way, "project" as said, or "pools", its largest values and its means side by side,
            without weights (timm's "abswin" small; dim is then twice the inputs).
        ffn: channel mixer, each token alone.
        norm, residual: as `PreNorm`'s.
        rank: axes of the grid.
        what: who asks, for messages.
        drop_path: rate of stochastic depth, from the stage.

    Raises:
        OptionError: an odd window; "pools" with other channels.
        SizeError: a grid that is not made of whole windows, or has an odd side.
    """

    name = "q_pool"
    kind = "downsample"
    papers = ("turbovit",)
    tiny = {"inputs": 8, "heads": 2, "window": 2}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        heads: int,
        window: int | None = None,
        shortcut: Literal["project", "pools"] = "project",
        ffn: Spec = Spec("mlp"),
        norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        rank: int = 2,
        what: str = "downsampling",
        drop_path: float = 0.0,
    ):
        super().__init__()
        if window is not None and (window < 2 or window % 2):
            raise OptionError(f"{what}: {self.name} halves its windows, so their side is even; given window={window}.")
        if shortcut == "pools" and dim != 2 * inputs:
            raise OptionError(
                f'{what}: {self.name} with shortcut="pools" doubles the channels; given {inputs} to {dim}: take '
                f'dim={2 * inputs}, or shortcut="project".'
            )
        self.norm1 = build(norm, "norm", dim=inputs)
        self.project = init.linear(inputs, dim) if shortcut == "project" else None
        self.mixer = PooledQueryAttention(inputs, dim, heads=heads, window=window)
        self.residual1 = build(residual, "residual", dim=dim, drop_path=drop_path)
        self.norm2 = build(norm, "norm", dim=dim)
        self.ffn = build(ffn, "ffn", dim=dim, grid=(None,) * rank)
        self.residual2 = build(residual, "residual", dim=dim, drop_path=drop_path)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return tuple(g // 2 for g in self.mixer.tiling(size).grid)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *half c"]:
        y = self.norm1(x)
        mixed = self.mixer(y)
        largest, mean = POOLS[x.dim() - 2], AVERAGES[x.dim() - 2]
        if self.project is not None:
            x = largest(self.project(y).movedim(-1, 1), 2).movedim(1, -1)
        else:
            maps = x.movedim(-1, 1)
            x = torch.cat([largest(maps, 2), mean(maps, 2)], 1).movedim(1, -1)
        x = self.residual1(x, mixed)
        return self.residual2(x, self.ffn(self.norm2(x)))


class PooledQueryStage(Stage):
    """A stage whose first block is its downsampling: `depth` counts it.

    Hiera's stages after the first. Arguments as `Stage`'s; `downsample` is a block such as Spec("q_pool", heads=2).

    Raises:
        OptionError: a depth below 1.
    """

    name = "q_pool_stage"
    papers = ("turbovit",)

    def __init__(
        self,
        dim: int,
        *,
        depth: int,
        downsample: Spec,
        inputs: int | None = None,
        grid: Sequence[int] = (56, 56),
        first: int = 0,
        drop_path: Sequence[float] = (),
        index: int = 0,
        **options: Any,
    ):
        if depth < 1:
            raise OptionError(f"{self.name} has a depth of 1 or more, as its first block pools; given {depth}.")
        rates = tuple(drop_path) or (0.0,) * depth
        opening = build(
            downsample, "downsample", inputs=inputs or dim, dim=dim, rank=len(grid), what=f"stage {index + 1}",
            drop_path=rates[0],
        )  # fmt: skip
        super().__init__(
            dim, depth=depth - 1, downsample=opening, inputs=inputs, grid=grid, first=first + 1, drop_path=rates[1:],
            index=index, **options,
        )  # fmt: skip
