"""Attention to a few sampled points of feature maps, whose places each query chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError, SizeError
from anyformer.layers.attention.projection import split_dim


class DeformableAttention(nn.Module):
    """sum over heads, levels and points of a weight times the value at reference + offset, by bilinear interpolation.

    Zhu et al. 2020 (Deformable DETR), arXiv:2010.04159, equation 3. Weights (a softmax over levels and points) and
    offsets are linear in the query alone; what lies outside a map is zero. Cost: queries heads levels points d
    multiply-adds, whatever the size of the maps, and 2 (queries + tokens) c^2 for the projections.

    Args:
        dim: channels of queries and maps.
        heads: attention heads.
        levels: maps that are looked at.
        points: places that a head samples on each of them.
    """

    def __init__(self, dim: int, *, heads: int, levels: int = 1, points: int = 4):
        super().__init__()
        if levels < 1 or points < 1:
            raise OptionError(f"deformable attention has a level and a point at least; given {levels}, {points}.")
        self.heads, self.levels, self.points = heads, levels, points
        self.head_dim = split_dim(dim, heads, None, "deformable attention")
        self.offsets = init.linear(dim, heads * levels * points * 2)
        self.weights = init.linear(dim, heads * levels * points)
        self.value, self.out = init.linear(dim, dim), init.linear(dim, dim)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Every head looks into a direction of its own, point k at a distance of k; all points weigh the same."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ways = torch.stack([angles.cos(), angles.sin()], -1)
        ways = ways / ways.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None]
        places = (ways[:, None, None] * steps).expand(-1, self.levels, -1, -1)
        self.offsets.bias.copy_(places.reshape(-1))
        for weight in (self.offsets.weight, self.weights.weight):
            nn.init.zeros_(weight)
        for weight in (self.value.weight, self.out.weight):
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        reference: Float[Tensor, "b n l r"],
        grids: Sequence[tuple[int, int]],
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """What the queries `x` sample.

        Args:
            memory: all maps' tokens, one map after the other, row by row.
            reference: of each query on each map, points (x, y), around which offsets count in tokens, or boxes (centre
                x, centre y, width, height), in which they count in half sides; shares of the map.
            grids: rows and columns of each map.
            valid: false at padded tokens, whose values are zero.
        """
        if len(grids) != self.levels or sum(h * w for h, w in grids) != memory.shape[1]:
            raise SizeError(
                f"deformable attention was built for {self.levels} maps; given the grids {list(grids)} and "
                f"{memory.shape[1]} tokens, which have to be as many as all grids together have places."
            )
        shape = (self.heads, self.levels, self.points)
        offsets = self.offsets(x).unflatten(-1, (*shape, 2))
        weights = self.weights(x).unflatten(-1, (self.heads, -1)).softmax(-1)
        centre = reference[:, :, None, :, None, :2]
        if reference.shape[-1] == 4:
            places = centre + offsets / self.points * reference[:, :, None, :, None, 2:] * 0.5
        else:
            size = torch.tensor([(w, h) for h, w in grids], device=x.device, dtype=x.dtype)
            places = centre + offsets / size[:, None]
        value = self.value(memory)
        if valid is not None:
            value = value.masked_fill(~valid[..., None], 0)
        value = value.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # (b h, d, m)
        places = (2 * places - 1).transpose(1, 2).flatten(0, 1)  # (b h, n, l, p, 2), from -1 to 1
        sampled = [
            nn.functional.grid_sample(v.unflatten(-1, grid), places[:, :, k].to(v.dtype), align_corners=False)
            for k, (v, grid) in enumerate(zip(value.split([h * w for h, w in grids], -1), grids, strict=True))
        ]  # (b h, d, n, p) each
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]  # (b h, 1, n, l p)
        y = (torch.cat(sampled, -1) * weights).sum(-1)
        return self.out(y.unflatten(0, (-1, self.heads)).permute(0, 3, 1, 2).flatten(2))
