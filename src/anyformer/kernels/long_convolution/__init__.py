"""Causal convolution of every channel with a filter as long as the sequence.

    y_t = sum_{s <= t} k_s x_{t-s}

By FFT of the channels filled up with zeros to twice their length, so that nothing wraps around: n log2(n) operations a
channel, in at least float32. As many channels at once as stay in the cache. `causal_conv` is the one for short filters.
The output of the last token alone is a sum.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import SizeError
from anyformer.kernels.exact import exact

__all__ = ["last_output", "long_convolution"]

TOGETHER = 1 << 20
"""Numbers of filled up channels that are transformed at once."""


def long_convolution(x: Float[Tensor, "b n c"], kernel: Float[Tensor, "c m"]) -> Float[Tensor, "b n c"]:
    """`x` `(b, n, c)` convolved with `kernel` `(c, m)`, of which the first n taps count; in x's type.

    Raises:
        SizeError: a filter for another number of channels.
    """
    n, taps = x.shape[1], min(kernel.shape[-1], x.shape[1])
    if kernel.ndim != 2 or kernel.shape[0] != x.shape[-1]:
        raise SizeError(
            f"long_convolution: {x.shape[-1]} channels need a filter ({x.shape[-1]}, taps); given "
            f"{tuple(kernel.shape)}."
        )
    wide = torch.promote_types(x.dtype, torch.float32)
    size = 1 << max(n + taps - 2, 1).bit_length()
    with exact(x):
        channels = max(TOGETHER // (size * max(len(x), 1)), 1)
        pairs = zip(x.to(wide).mT.split(channels, 1), kernel[:, :taps].to(wide).split(channels), strict=True)
        y = torch.cat([_convolved(part, filters, size) for part, filters in pairs], 1)
    return y.to(x.dtype).mT


def _convolved(x: Float[Tensor, "b c n"], kernel: Float[Tensor, "c m"], size: int) -> Float[Tensor, "b c n"]:
    """The channels' circular convolution of `size` tokens, the first n of it."""
    found = torch.fft.rfft(x.contiguous(), n=size) * torch.fft.rfft(kernel, n=size)
    return torch.fft.irfft(found, n=size)[..., : x.shape[-1]]


def last_output(x: Float[Tensor, "b n c"], kernel: Float[Tensor, "#b c m"]) -> Float[Tensor, "b 1 c"]:
    """What `long_convolution` gives for the last token, by its sum: n multiply-adds a channel; m is n or more."""
    wide = torch.promote_types(x.dtype, torch.float32)
    taps = kernel[..., : x.shape[1]].flip(-1).transpose(-1, -2)
    return (x.to(wide) * taps.to(wide)).sum(1, keepdim=True).to(x.dtype)
