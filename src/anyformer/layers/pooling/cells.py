"""Means over cells of neighbouring tokens, without padding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.pooling.mixing import AVERAGES


def cell_means(
    x: Float[Tensor, "b *grid c"], size: int, segments: Segments | None = None
) -> Float[Tensor, "b *cells c"]:
    """The mean of each cell of `size` tokens along every axis, over those that are on the grid and no padding.

    Cells of nothing but padding are 0. Cost: tokens c additions.
    """
    means = AVERAGES[x.dim() - 2]
    share = None
    if segments is not None:
        x = segments.zero(x)
        share = means(segments.valid[:, None].to(x.dtype), size, ceil_mode=True).clamp(min=torch.finfo(x.dtype).eps)
    y = means(x.movedim(-1, 1), size, ceil_mode=True)
    return (y if share is None else y / share).movedim(1, -1)
