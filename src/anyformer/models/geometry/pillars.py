"""From points to pillars, the cells of a grid seen from above, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.blocks.graph import normed
from anyformer.core.build import build
from anyformer.core.init import linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class Pillars(NamedTuple):
    """Which points stand in which cell.

    Attributes:
        of: `(b, n)`, the pillar of each point; points that are padding have the number m.
        places: `(b, m, 2)`, row (y) and column (x) of each pillar; 0 where padded.
        segments: which of the m pillars there are.
    """

    of: Int[Tensor, "b n"]
    places: Int[Tensor, "b m 2"]
    segments: Segments

    def gathered(self, x: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
        """To each point what its pillar has; zeros to padding."""
        padded = nn.functional.pad(x, (0, 0, 0, 1))
        return padded.gather(1, self.of[..., None].expand(-1, -1, x.shape[-1]))

    def highest(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """To each pillar the largest of its points' values, which are 0 or more."""
        found = x.new_zeros(len(x), self.places.shape[1] + 1, x.shape[-1])
        return found.scatter_reduce(1, self.of[..., None].expand_as(x), x, "amax")[:, :-1]

    def mean(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """To each pillar the mean over its points."""
        ones = torch.ones_like(x[..., :1])
        both = torch.cat([x, ones], -1)
        found = both.new_zeros(len(x), self.places.shape[1] + 1, both.shape[-1])
        found = found.scatter_add(1, self.of[..., None].expand_as(both), both)[:, :-1]
        return found[..., :-1] / found[..., -1:].clamp(min=1)


def stand(cells: Int[Tensor, "b n 2"], grid: Sequence[int], valid: Bool[Tensor, "b n"]) -> Pillars:
    """The pillars of points in these cells (row, column), in raster order, as many as the fullest cloud needs.

    While compiling, as many as there are points, so that no shape depends on values. Cost: a sort.
    """
    rows, columns = grid
    number = (cells[..., 0] * columns + cells[..., 1]).masked_fill(~valid, rows * columns)
    ordered, order = number.sort(dim=1, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = new.cumsum(1) - 1
    real = ordered < rows * columns
    count = (new & real).sum(1)
    most = number.shape[1] if torch.compiler.is_compiling() else max(int(count.max()), 1)
    of = torch.empty_like(rank).scatter_(1, order, torch.where(real, rank, most))
    held = number.new_zeros(len(number), most + 1).scatter_(1, of, number)[:, :most]
    there = torch.arange(most, device=number.device) < count[:, None]
    held = held.masked_fill(~there, 0)
    return Pillars(of, torch.stack([held // columns, held % columns], -1), Segments.from_mask(there))


class PillarEncoder(nn.Module):
    """Each point's values and where it lies in its pillar, through linear layers; the pillar takes the largest.

    A point brings its values, its offset from the mean of its pillar's points and from the pillar's centre. Between two
    layers it is shown the largest values of its pillar. Zhou et al. 2019, arXiv:1910.06528; as FlatFormer's authors
    have it. Cost: n sum(widths) multiply-adds a point.

    Args:
        channels: values of a point, the first three x, y and z.
        widths: channels after each layer.
        norm: after each linear layer, before ReLU.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], *, norm: Spec = Spec("batchnorm", eps=1e-3, momentum=0.01)
    ):
        super().__init__()
        inputs = [channels + 6, *(2 * w for w in widths[:-1])]
        self.linears = nn.ModuleList(linear(a, b, bias=False) for a, b in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(build(norm, "norm", dim=w) for w in widths)

    def forward(
        self,
        points: Float[Tensor, "b n i"],
        centre: Float[Tensor, "b n 3"],
        pillars: Pillars,
        valid: Bool[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b m c"]]:
        """Values of each point after the last layer, and those of each pillar."""
        where = points[..., :3]
        x = torch.cat([points, where - pillars.gathered(pillars.mean(where)), where - centre], -1)
        x = x.masked_fill(~valid[..., None], 0)
        highest = x
        for i, (layer, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            if i:
                x = torch.cat([x, pillars.gathered(highest)], -1)
            x = normed(norm, layer(x), valid).relu()
            highest = pillars.highest(x)
        return x, highest
