"""Positions added to tokens: a learned table, or fixed sines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import PUBLISHED, published, trunc_normal
from anyformer.core.part import Part


class LearnedPosition(Part):
    """A learned vector per position, added to the tokens; an image's table is resized to other grids.

    For images `(b, h, w, c)` (or `(b, prefix + h w, c)` with class tokens) the table is resized; for sequences, a
    position beyond the table raises `SizeError`. Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1 and
    appendix D.2.

    Args:
        dim: channels.
        grid: the grid that the table is made for; its last axis alone for sequences.
        prefix: tokens before the grid (class tokens) that have positions of their own; others before it get none.
        offset: rows left unused at the start of a sequence's table (RoBERTa and OPT: 2).
        std: deviation of the first values; None: 0.02, or with `init="fan_in"` about that of what they are added to.
        resize: how an image's table is resized: "bicubic" with antialiasing (ViT), "cubic" without it (ViTDet), or
            "bilinear" (PVT).
    """

    name = "learned"
    kind = "position"
    papers = ("vit",)
    tiny = {"grid": (4,)}

    def __init__(
        self,
        dim: int,
        *,
        grid: Sequence[int],
        prefix: int = 0,
        offset: int = 0,
        std: float | None = None,
        resize: Literal["bicubic", "cubic", "bilinear"] = "bicubic",
    ):
        super().__init__()
        self.grid, self.prefix, self.offset, self.resize = tuple(grid), prefix, offset, resize
        if std is None:  # scaled to width, patches start near 1 and embeddings of words at dim^-0.5
            std = PUBLISHED if published() else 0.5 if len(self.grid) > 1 else dim**-0.5
        self.table = nn.Parameter(trunc_normal(torch.empty(offset + prefix + math.prod(self.grid), dim), std))

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """Add positions; `positions` of a sequence's tokens where not 0, 1, ...; `grid` behind prefix tokens."""
        if positions is not None:
            self._check(int(positions.max()) + 1 if not torch.compiler.is_compiling() else 0)
            return x + self.table[positions + self.offset]
        grid = tuple(grid) or tuple(x.shape[1:-1])
        if len(grid) == 1:
            self._check(grid[0])
            return x + self.table[self.offset : self.offset + self.prefix + grid[0]]
        table = self.table[self.offset :]
        if grid != self.grid:
            table = self._resized(table, grid)
        if x.dim() - 2 == len(grid):
            return x + table.view(*grid, -1)
        bare = x.shape[1] - len(table)
        return x + (nn.functional.pad(table, (0, 0, bare, 0)) if bare else table)

    @property
    def limit(self) -> int:
        """Tokens of the longest sequence."""
        return len(self.table) - self.offset - self.prefix

    def _check(self, length: int) -> None:
        if length > self.limit:
            raise SizeError(
                f"the learned positions end at {self.limit} and the sequence has {length} tokens: shorten it, or build "
                f"the model with max_length={length} or more."
            )

    def _resized(self, table: Tensor, grid: tuple[int, ...]) -> Tensor:
        first, rest = table[: self.prefix], table[self.prefix :]
        image = rest.view(1, *self.grid, -1).movedim(-1, 1)
        if len(grid) == 2:
            antialias = self.resize == "bicubic"
            mode = "bilinear" if self.resize == "bilinear" else "bicubic"
            image = nn.functional.interpolate(image.float(), size=grid, mode=mode, antialias=antialias)
        else:
            image = nn.functional.interpolate(image.float(), size=grid, mode="trilinear")
        return torch.cat([first, image.to(table.dtype).movedim(1, -1).flatten(0, -2)])


class SinusoidalPosition(Part):
    """Fixed sines and cosines of the position at geometric frequencies, added to the tokens of a sequence.

    PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(...). Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    `layout` "halves" puts all sines before all cosines (Marian, tensor2tensor). Any length.
    """

    name = "sinusoidal"
    kind = "position"
    papers = ("transformer",)

    def __init__(self, dim: int, *, layout: Literal["interleaved", "halves"] = "interleaved", base: float = 10000.0):
        super().__init__()
        self.dim, self.layout, self.base = dim, layout, base

    def table(self, positions: Tensor) -> Float[Tensor, "*b n c"]:
        """The code of each position."""
        half = torch.arange((self.dim + 1) // 2, device=positions.device, dtype=torch.float32)
        angles = positions[..., None].float() * torch.exp(half * (-2 * math.log(self.base) / self.dim))
        parts = [angles.sin(), angles.cos()]
        if self.layout == "halves":
            return torch.cat(parts, -1)[..., : self.dim]
        return torch.stack(parts, -1).flatten(-2)[..., : self.dim]

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        if positions is None:
            positions = torch.arange(math.prod(x.shape[1:-1]), device=x.device)
            return x + self.table(positions).view(*x.shape[1:]).to(x.dtype)
        return x + self.table(positions).to(x.dtype)
