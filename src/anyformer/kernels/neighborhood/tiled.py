"""Neighborhood attention in tiles: queries that lie together share the keys around them.

A tile of T tokens along an axis needs the T + kernel - 1 tokens around it, however its windows slide at a border; so
keys are repeated (1 + (kernel - 1) / T)^rank times and not kernel^rank times, and each tile is one small dense
attention with a mask. Tiles whose windows lie alike (all inner ones, say) share mask and bias and are computed
together. With a dilation, tiles lie in the interleaved grids of every dilation-th token.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from anyformer.kernels.attention import attend
from anyformer.kernels.neighborhood.plain import check_fit, window_start

SIDES = {1: 32, 2: 8, 3: 4}
"""Tokens along each axis of a tile, by rank."""
GATHERED = 1 << 22
"""Numbers that are gathered at a time, so that what is not kept for backward is little."""


class Tiles(NamedTuple):
    """Tiles whose windows lie alike: they share `seen` and `rows`.

    Attributes:
        queries, keys: tokens of each tile, by their places in the flattened grid.
        seen: whether a key is in the neighbourhood of a query.
        rows: the row of their offset in the flattened table of a bias; any where the key is not seen.
    """

    queries: Int[Tensor, "tiles q"]
    keys: Int[Tensor, "tiles k"]
    seen: Bool[Tensor, "q k"]
    rows: Int[Tensor, "q k"]


def axis_tiles(size: int, kernel: int, dilation: int, side: int, device: torch.device) -> list[Tiles]:
    """The tiles of one axis, those that are alike together; tiles may overlap at the end of an axis."""
    alike: dict[tuple[tuple[int, ...], int, int], list[tuple[int, int]]] = {}
    longest = -(-size // dilation)  # of the interleaved sequences; others have one place less
    usual = -(-longest // -(-longest // side))  # tiles of nearly equal length, in all sequences the same
    if 5 * min(usual + kernel - 1, longest) >= 4 * longest:
        usual = longest  # each tile would see nearly all the same
    for rest in range(min(dilation, size)):
        steps = -(-(size - rest) // dilation)
        length = min(usual, steps)
        reach = min(length + kernel - 1, steps)
        for begin in range(0, steps, length):
            start = min(begin, steps - length)
            first = min(max(start - kernel // 2, 0), steps - reach)
            windows = tuple(window_start(start + i, steps, kernel) - first for i in range(length))
            alike.setdefault((windows, start - first, reach), []).append(
                (start * dilation + rest, first * dilation + rest)
            )
    found = []
    for (windows, lead, reach), starts in alike.items():
        begins = torch.tensor(starts, device=device)
        queries, keys = torch.arange(len(windows), device=device), torch.arange(reach, device=device)
        apart = keys - torch.tensor(windows, device=device)[:, None]
        seen = (apart >= 0) & (apart < kernel)
        rows = ((queries + lead)[:, None] - keys + kernel - 1).clamp(0, 2 * kernel - 2)
        found.append(Tiles(begins[:, :1] + dilation * queries, begins[:, 1:] + dilation * keys, seen, rows))
    return found


def plan(
    grid: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], device: torch.device
) -> tuple[list[Tiles], Int[Tensor, "n"]]:
    """All tiles of a grid, those that are alike together, and for every token the slot that holds its output."""
    side = SIDES[len(grid)]
    axes = [axis_tiles(*sizes, side, device) for sizes in zip(grid, kernel, dilation, strict=True)]
    found = []
    for parts in itertools.product(*axes):
        tiles = parts[0]
        for axis, part in enumerate(parts[1:], 1):
            tiles = Tiles(
                _pairs(tiles.queries * grid[axis], part.queries, torch.add),
                _pairs(tiles.keys * grid[axis], part.keys, torch.add),
                _pairs(tiles.seen, part.seen, torch.logical_and),
                _pairs(tiles.rows * (2 * kernel[axis] - 1), part.rows, torch.add),
            )
        found.append(tiles)
    order = torch.cat([tiles.queries.flatten() for tiles in found])
    slots = torch.empty(math.prod(grid), dtype=torch.long, device=device)
    slots[order] = torch.arange(len(order), device=device)
    return found, slots


kept_plan = lru_cache(maxsize=32)(plan)


def neighborhood_tiled(
    q: Float[Tensor, "b h *grid d"],
    k: Float[Tensor, "b h *grid d"],
    v: Float[Tensor, "b h *grid e"],
    *,
    kernel: Sequence[int],
    dilation: Sequence[int],
    bias: Float[Tensor, "h rows"] | None = None,
    valid: Bool[Tensor, "b *grid"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b h *grid e"]:
    """Equal to `neighborhood_plain` in value and gradient; arguments as there.

    Cost: 2 tokens prod(T + kernel - 1) c multiply-adds in tiles of T tokens along an axis. Memory: that of the tokens
    in inference; in training (1 + (kernel - 1) / T)^rank times that, and a number for each query, key of its tile
    and head.
    """
    grid = tuple(q.shape[2:-1])
    check_fit(grid, kernel, dilation)
    if torch.compiler.is_compiling() or _get_current_dispatch_mode_stack():
        tilings, slots = plan(grid, kernel, dilation, q.device)
    else:
        with torch.inference_mode(False):  # what is kept also serves training
            tilings, slots = kept_plan(grid, tuple(kernel), tuple(dilation), q.device)
    q, k, v = (t.flatten(2, -2).transpose(1, 2) for t in (q, k, v))  # (b, n, h, d), as a projection gives them
    outputs = []
    for tiles in tilings:
        added = None if bias is None else bias[:, tiles.rows][None]  # four axes, for the fused kernel
        some = max(GATHERED // max(len(q) * tiles.keys.shape[1] * (k.shape[2:].numel() + v.shape[2:].numel()), 1), 1)
        for queries, keys in zip(tiles.queries.split(some), tiles.keys.split(some), strict=True):
            mask = tiles.seen
            if valid is not None:
                mask = mask & valid.flatten(1)[:, keys].flatten(0, 1)[:, None, None]
            near, far, values = (
                t[:, at].flatten(0, 1).transpose(1, 2) for t, at in ((q, queries), (k, keys), (v, keys))
            )
            y = attend(near, far, values, bias=added, mask=mask, scale=scale, dropout=dropout)
            outputs.append(y.transpose(1, 2).reshape(len(q), queries.numel(), *v.shape[2:]))
    return torch.cat(outputs, 1)[:, slots].transpose(1, 2).unflatten(2, grid)


def _pairs(first: Tensor, second: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Every pair of rows, and in them every pair of columns."""
    return join(first[:, None, :, None], second[None, :, None, :]).flatten(2).flatten(0, 1)
