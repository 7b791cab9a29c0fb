"""Correlations of all pairs of places of two maps, read in windows: the cost volume of optical flow and stereo.

`plain` is the equation: a volume, its pyramid, bilinear reading. `on_demand` gives the same from the features, without
the volume. `correlate` picks: the volume where it fits, which reads fastest when it is read often, else on demand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anyformer.core.errors import SizeError
from anyformer.kernels.correlation.on_demand import lookup_on_demand
from anyformer.kernels.correlation.plain import all_pairs, lookup_plain, pooled, read

__all__ = ["VOLUME_BYTES", "all_pairs", "correlate", "lookup_on_demand", "lookup_plain"]

VOLUME_BYTES = 1 << 32
"""Largest volume that is kept: 4 GiB, a pair of about 1450 x 1450 pixels at an eighth of their resolution."""


def correlate(first: Tensor, second: Tensor, *, levels: int = 4, radius: int = 4) -> Callable[[Tensor], Tensor]:
    """The function from matches `(b, 2, h, w)` to windows of correlations `(b, levels (2 radius + 1)^2, h, w)`.

    Computed in at least float32. See `plain.lookup_plain` for the equation and the order of the windows.

    Args:
        first, second: features `(b, c, h, w)` of both frames.
        levels: of the pyramid.
        radius: of the windows, in places of each level.

    Raises:
        SizeError: maps of different sizes, or too small for that many levels.
    """
    if first.shape != second.shape:
        raise SizeError(f"correlations are of maps of one size; given {tuple(first.shape)} and {tuple(second.shape)}.")
    batch, _, height, width = first.shape
    if min(height, width) < 2**levels:
        raise SizeError(
            f"a pyramid of {levels} levels takes maps of at least {2**levels} x {2**levels} places; "
            f"given {height} x {width}: take larger images or fewer levels."
        )
    wide = torch.promote_types(first.dtype, torch.float32)
    first, second = first.to(wide), second.to(wide)
    if batch * (height * width) ** 2 * first.element_size() > VOLUME_BYTES:
        return lambda centres: lookup_on_demand(first, second, centres, radius, levels)
    pyramid = pooled(all_pairs(first, second).flatten(0, 2)[:, None], levels)
    return lambda centres: read(pyramid, centres, radius, (batch, height, width))
