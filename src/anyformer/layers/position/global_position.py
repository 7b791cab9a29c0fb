"""Fixed sines of an image's places, smoothed by a learned convolution: positions that change gently with the size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.position.sine_map import SineMap


class GlobalPosition(SineMap):
    """x + DWConv(sines): the codes of `SineMap`, which run from 0 to 2 pi at any size, through a depthwise convolution.

    Tian et al. 2022 (ResFormer), arXiv:2212.00776, section 3, "global positional embedding". Nothing is resized: any
    grid of rank 2 has its codes. Class tokens before a map get none. Cost: tokens c kernel^2 multiply-adds, once for
    a batch.

    Args:
        dim: channels; a multiple of 4.
        kernel: places along each axis that a filter covers; odd.
        temperature: the longest period over 2 pi.

    Raises:
        OptionError: another `dim`; an even kernel.
    """

    name = "global_position"
    papers = ("resformer",)
    tiny = {"grid": (4, 6)}

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 3,
        temperature: float = 10000.0,
        grid: Sequence[int | None] | None = None,
    ):
        super().__init__(dim, temperature=temperature)
        # The deviation that convolutions of torch start with, as the authors'.
        self.conv = DepthwiseConv(dim, kernel=kernel, std=1 / (3**0.5 * kernel))

    def codes(self, grid: Sequence[int]) -> Float[Tensor, "1 h w c"]:
        """What is added at every place of a grid."""
        places = torch.ones(1, *grid, dtype=torch.bool, device=self.conv.weight.device)
        return self.conv(self.table(places).to(self.conv.weight.dtype))

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """Add the codes to a map, or to a map's tokens behind class tokens where `grid` says that they are one."""
        grid = tuple(grid) or tuple(x.shape[1:-1])
        codes = self.codes(grid).to(x.dtype)
        if x.dim() - 2 != len(grid):
            codes = codes.flatten(1, 2)
            codes = torch.nn.functional.pad(codes, (0, 0, x.shape[1] - codes.shape[1], 0))
        return x + codes
