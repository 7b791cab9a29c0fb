"""Sines and cosines of an image's rows and columns, counted over its valid part."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part


def sines(places: Float[Tensor, "*b"], dim: int, temperature: float = 10000.0) -> Float[Tensor, "*b dim"]:
    """sin and cos of each place at `dim` / 2 geometric frequencies, in turn: sin, cos, sin, cos, ..."""
    steps = torch.arange(dim // 2, dtype=torch.float32, device=places.device)
    angles = places[..., None].float() * torch.exp(steps * (-2 * math.log(temperature) / dim))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


class SineMap(Part):
    """Half the channels code the row, half the column, each as its share of the valid rows or columns times 2 pi.

    Carion et al. 2020 (DETR), arXiv:2005.12872, appendix A.4, after arXiv:1802.05751. Any grid of rank 2.

    Args:
        dim: channels; a multiple of 4.
        temperature: the longest period over 2 pi.
    """

    name = "sine_map"
    kind = "position"
    papers = ("group_detr",)
    tiny = {"grid": (4, 6)}

    def __init__(self, dim: int, *, temperature: float = 10000.0, grid: Sequence[int | None] | None = None):
        super().__init__()
        if dim % 4:
            raise OptionError(
                f"sine_map codes rows and columns by sines and cosines: dim is a multiple of 4, not {dim}."
            )
        self.dim, self.temperature = dim, temperature

    def table(self, valid: Bool[Tensor, "b h w"]) -> Float[Tensor, "b h w c"]:
        """The code of each place of maps whose valid part is at the upper left."""
        counted = valid.float()
        codes = []
        for axis in (1, 2):
            places = counted.cumsum(axis)
            last = places.select(axis, -1).unsqueeze(axis)
            codes.append(sines(places / (last + 1e-6) * 2 * math.pi, self.dim // 2, self.temperature))
        return torch.cat(codes, -1)

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """Add the codes to all tokens of a map."""
        grid = tuple(grid) or tuple(x.shape[1:-1])
        codes = self.table(torch.ones(1, *grid, dtype=torch.bool, device=x.device)).to(x.dtype)
        return x + codes.view(1, *x.shape[1:])
