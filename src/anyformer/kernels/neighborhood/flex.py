"""Neighborhood attention through torch's FlexAttention, which compiles scores, bias and mask to one GPU kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from anyformer.kernels.neighborhood.plain import check_fit

HEAD_DIMS = (16, 32, 64, 128)
"""Channels of a head for which FlexAttention has kernels."""


def places_of(token: Tensor, grid: Sequence[int]) -> list[Tensor]:
    """The place along each axis of a token of the flattened grid."""
    places = []
    for size in reversed(grid):
        places.append(token % size)
        token = token // size
    return places[::-1]


def in_neighbourhood(grid: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]) -> Callable[..., Tensor]:
    """FlexAttention's mask: whether a key is a neighbour of a query."""

    def seen(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        found = query >= 0
        sizes = zip(places_of(query, grid), places_of(key, grid), grid, kernel, dilation, strict=True)
        for at, other, size, side, step in sizes:
            last = (size - 1 - at % step) // step + 1 - side  # the last start of a window in this interleaved sequence
            start = torch.minimum((at // step - side // 2).clamp(min=0), last)
            apart = other // step - start
            found = found & (at % step == other % step) & (apart >= 0) & (apart < side)
        return found

    return seen


def with_bias(
    bias: Tensor, grid: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> Callable[..., Tensor]:
    """FlexAttention's change of scores: the bias of their offset."""

    def changed(score: Tensor, _: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = query * 0
        sizes = zip(places_of(query, grid), places_of(key, grid), kernel, dilation, strict=True)
        for at, other, side, step in sizes:
            offset = (at // step - other // step + side - 1).clamp(0, 2 * side - 2)
            row = row * (2 * side - 1) + offset
        return score + bias[head, row]

    return changed


@lru_cache(maxsize=32)
def block_mask(grid: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], device: torch.device) -> Any:
    """Which blocks of queries see which blocks of keys."""
    tokens = torch.Size(grid).numel()
    return create_block_mask(in_neighbourhood(grid, kernel, dilation), None, None, tokens, tokens, device=str(device))


@cache
def compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def neighborhood_flex(
    q: Float[Tensor, "b h *grid d"],
    k: Float[Tensor, "b h *grid d"],
    v: Float[Tensor, "b h *grid e"],
    *,
    kernel: Sequence[int],
    dilation: Sequence[int],
    bias: Float[Tensor, "h rows"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b h *grid e"]:
    """Equal to `neighborhood_plain` in value and gradient; arguments as there.

    Blocks of keys in which no query of a block has a neighbour are left out. On a CPU, all scores are computed.
    """
    grid, kernel, dilation = tuple(q.shape[2:-1]), tuple(kernel), tuple(dilation)
    check_fit(grid, kernel, dilation)
    with torch.inference_mode(False):
        mask = block_mask(grid, kernel, dilation, q.device)
    changed = None if bias is None else with_bias(bias, grid, kernel, dilation)
    attend = flex_attention if torch.compiler.is_compiling() or not q.is_cuda else compiled()
    y: Any = attend(*(t.flatten(2, -2) for t in (q, k, v)), score_mod=changed, block_mask=mask, scale=scale)
    return y.unflatten(2, grid)
