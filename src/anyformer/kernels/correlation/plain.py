"""All pairs' correlations as their equations: a volume, its pyramid, and windows that are read from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def all_pairs(first: Tensor, second: Tensor) -> Tensor:
    """C_ijkl = <first_ij, second_kl> / sqrt(c) of maps `(b, c, h, w)` and `(b, c, k, l)`: `(b, h, w, k, l)`.

    Teed and Deng 2020, arXiv:2003.12039, equation 1. Cost: b h w k l c multiply-adds, b h w k l numbers.
    """
    volume = first.flatten(2).transpose(1, 2) @ second.flatten(2)
    return (volume / first.shape[1] ** 0.5).unflatten(1, first.shape[2:]).unflatten(3, second.shape[2:])


def pooled(maps: Tensor, levels: int) -> list[Tensor]:
    """`(..., c, k, l)` and its means over 2x2, 4x4, ... places: `levels` maps in all; odd ends are left out."""
    found = [maps]
    for _ in range(levels - 1):
        found.append(F.avg_pool2d(found[-1], 2))
    return found


def offsets(radius: int, like: Tensor) -> Tensor:
    """(x, y) of every place of a window, `(2 r + 1, 2 r + 1, 2)`: x is the same along a row of the table."""
    steps = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)


def sample(maps: Tensor, places: Tensor) -> Tensor:
    """Values `(n, c, p, q)` of `(n, c, k, l)` at places `(n, p, q, 2)`, (x, y); linear between, zero outside."""
    size = torch.tensor((maps.shape[-1], maps.shape[-2]), device=places.device, dtype=places.dtype)
    return F.grid_sample(maps, (2 * places + 1) / size - 1, align_corners=False)


def lookup_plain(volume: Tensor, centres: Tensor, radius: int, levels: int) -> Tensor:
    """Windows of (2 r + 1)^2 correlations around each pixel's match, from every level of the pyramid.

    arXiv:2003.12039, section 3.2: level i is the volume pooled over 2^i x 2^i places of the second frame, and is read
    around centre / 2^i.

    Args:
        volume: `(b, h, w, k, l)`.
        centres: `(b, 2, h, w)`, (x, y) in places of the second frame.
        radius: of the windows.
        levels: of the pyramid.

    Returns `(b, levels (2 r + 1)^2, h, w)`: levels slowest, then x, then y.
    """
    batch, height, width = volume.shape[:3]
    return read(pooled(volume.flatten(0, 2)[:, None], levels), centres, radius, (batch, height, width))


def read(pyramid: Sequence[Tensor], centres: Tensor, radius: int, shape: Sequence[int]) -> Tensor:
    """The windows of `lookup_plain` from a pyramid whose maps `(b h w, 1, k, l)` were made before."""
    middle = centres.movedim(1, -1).reshape(-1, 1, 1, 2)
    window = offsets(radius, centres)
    found = [sample(level, middle / 2**i + window).flatten(1) for i, level in enumerate(pyramid)]
    return torch.cat(found, 1).unflatten(0, tuple(shape)).movedim(-1, 1)
