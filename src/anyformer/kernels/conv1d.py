"""Convolution along one axis, as one of images of a single row: that one has a form for channels-last memory.

The library's own convolution along one axis copies channels-last tokens to channels-first and back, and takes up to
thirty times as long for a filter per channel.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def conv1d(
    x: Float[Tensor, "b i n"],
    weight: Float[Tensor, "o j k"],
    bias: Float[Tensor, " o"] | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Float[Tensor, "b o m"]:
    """As `torch.nn.functional.conv1d`. Cost: m o j k multiply-adds a row."""
    along = [(first, *([n] if isinstance(n, int) else n)) for first, n in ((1, stride), (0, padding), (1, dilation))]
    return F.conv2d(x[:, :, None], weight[:, :, None], bias, along[0], along[1], along[2], groups)[:, :, 0]
