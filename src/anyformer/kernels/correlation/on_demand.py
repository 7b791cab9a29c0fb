"""Windows of correlations without the volume: pooled features are sampled where they are asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.kernels.correlation.plain import offsets, pooled, sample


def lookup_on_demand(first: Tensor, second: Tensor, centres: Tensor, radius: int, levels: int) -> Tensor:
    """What `lookup_plain` gives, from the features: arXiv:2003.12039, section 3.2, "efficient computation".

    Pooling and sampling are linear, so that the pooled, sampled correlation is that of the pooled, sampled features.
    Memory grows with the pixels and not with their square; work is levels (2 r + 1)^2 b h w c at every call.

    Args:
        first, second: features `(b, c, h, w)` and `(b, c, k, l)`.
        centres, radius, levels: as `lookup_plain`'s.
    """
    scaled = first / first.shape[1] ** 0.5
    middle = centres.movedim(1, -1)
    columns = offsets(radius, centres)  # one x at a time: (2 r + 1) times the features in memory, not its square
    found = []
    for i, level in enumerate(pooled(second, levels)):
        for column in columns:
            places = (middle / 2**i)[:, :, :, None] + column  # (b, h, w, 2 r + 1, 2)
            values = sample(level, places.flatten(2, 3)).unflatten(3, places.shape[2:4])
            found.append(torch.einsum("bchw,bchwn->bnhw", scaled, values))
    return torch.cat(found, 1)
