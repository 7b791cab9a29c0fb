"""Overlapping windows of a map as tokens: every token is what it and its neighbours were, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import SizeError


def soft_split(
    x: Float[Tensor, "b *grid c"], kernel: int, stride: int, padding: int = 0
) -> Float[Tensor, "b *smaller w"]:
    """Windows of `kernel` tokens along each axis, every `stride` tokens, as `c kernel^rank` channels.

    The channels of a window are ordered as a convolution's weights are: by channel, then by place. Zeros lie around
    the map. Yuan et al. 2021 (T2T-ViT), arXiv:2101.11986, equation 3. Cost: a copy of the windows.
    """
    grid = tuple(x.shape[1:-1])
    split_grid(grid, kernel, stride, padding)
    y = nn.functional.pad(x, (0, 0, *(padding,) * (2 * len(grid)))) if padding else x
    for axis in range(len(grid)):
        y = y.unfold(1 + axis, kernel, stride)
    return y.flatten(1 + len(grid))


def split_grid(size: Sequence[int], kernel: int, stride: int, padding: int = 0) -> tuple[int, ...]:
    """The grid of tokens after a soft split. Raises `SizeError` where a side is shorter than a window."""
    least = max(kernel - 2 * padding, 1)
    if min(size) < least:
        raise SizeError(
            f"a map of {'x'.join(map(str, size))} is too small for windows of {kernel} with {padding} zeros around it; "
            f"the least is {least} a side."
        )
    return tuple((s + 2 * padding - kernel) // stride + 1 for s in size)
