"""A pre-norm block that first tells its tokens where they are, by what lies around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import PreNorm
from anyformer.core.errors import FitError
from anyformer.core.segments import Segments
from anyformer.layers.convolution.depthwise import DepthwiseConv


class ConditionalPreNorm(PreNorm):
    """x + DW(x), then the two branches of `PreNorm`.

    The depthwise convolution is a conditional position encoding: the zeros outside the grid tell tokens where they
    are. Chu et al. 2021, arXiv:2102.10882; in every block of RMT (arXiv:2309.11523, figure 3).

    Args:
        kernel: tokens along each axis that the convolution covers; odd.
        dim, grid, others: as `PreNorm`'s.

    Raises:
        FitError: a causal block, as the convolution looks at both sides.
        OptionError: an even kernel.
    """

    name = "conditional_prenorm"
    papers = ("rmt",)

    def __init__(self, dim: int, *, kernel: int = 3, grid: Sequence[int | None] | None = None, **options: Any):
        if options.get("causal"):
            raise FitError(f"{self.name} looks at a token's neighbours on both sides; a causal stack takes prenorm.")
        super().__init__(dim, grid=grid, **options)
        self.position = DepthwiseConv(dim, kernel=kernel, grid=(None, None) if grid is None else grid)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, *others: Any, **options: Any
    ) -> Float[Tensor, "b *grid c"]:
        return super().forward(x + self.position(x, segments), segments, *others, **options)
