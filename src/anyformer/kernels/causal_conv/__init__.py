"""Short causal convolution of every channel by itself, over time.

The local filter before the scans of Mamba (Gu and Dao 2023, arXiv:2312.00752, figure 3) and of many linear attentions:

    y_t = bias + sum_j w_{k-1-j} x_{t-j},    j = 0 ... k-1

Without documents this is a depthwise convolution (`depthwise`), or, of one token, a sum; with them, and in other types
than float32, the equation itself, k multiply-adds over whole sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.errors import SizeError
from anyformer.core.state import check_batch
from anyformer.kernels.causal_conv.depthwise import depthwise
from anyformer.kernels.exact import exact

__all__ = ["causal_conv"]


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    silu: bool = False,
    resets: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve `x` `(b, L, D)`: `y` of the same shape, and the state `(b, k-1, D)`, the inputs the next tokens see.

    Sums in at least float32. Cost: b * L * D * k.

    Args:
        x: input `(b, L, D)`.
        weight: `(D, k)`; the last column meets the token itself.
        bias: `(D,)`.
        silu: y is silu of the sum.
        resets: `(b, L)`, true where a document starts: tokens from there on see no earlier one.
        state: `(b, k-1, D)`, the inputs before the first; zero where not given.

    Raises:
        SizeError: the shapes do not belong together.
    """
    batch, length, channels = x.shape
    taps = weight.shape[-1]
    if weight.shape != (channels, taps):
        raise SizeError(f"causal_conv: {channels} channels need a weight ({channels}, k); given {tuple(weight.shape)}.")
    if state is None:
        state = x.new_zeros(batch, taps - 1, channels)
    else:
        check_batch(state, batch, "causal_conv")
        if state.shape[1:] != (taps - 1, channels):
            raise SizeError(
                f"causal_conv: the state of {taps} taps and {channels} channels is (b, {taps - 1}, {channels}); "
                f"given {tuple(state.shape)}."
            )
    if resets is not None and resets.shape != (batch, length):
        raise SizeError(f"causal_conv: resets have shape {tuple(resets.shape)}; beside x it is {(batch, length)}.")

    seen = torch.cat([state.to(x.dtype), x], 1)
    seen = seen.to(torch.promote_types(x.dtype, torch.float32))
    documents = None if resets is None else F.pad(resets.long().cumsum(1), (taps - 1, 0))
    weight, bias = weight.to(seen.dtype), None if bias is None else bias.to(seen.dtype)
    if documents is None and length == 1:
        y = (seen * weight.t()).sum(1, keepdim=True)
        y = y if bias is None else y + bias
    elif documents is None and seen.dtype == torch.float32 and length:
        with exact(seen):
            y = depthwise(seen, weight, bias)
    else:
        y = _by_taps(seen, weight, bias, documents)
    last = seen[:, length:]
    if documents is not None:
        last = last.masked_fill((documents[:, length:] != documents[:, -1:])[..., None], 0)
    return (F.silu(y) if silu else y).to(x.dtype), last.to(x.dtype, copy=True)


def _by_taps(seen: Tensor, weight: Tensor, bias: Tensor | None, documents: Tensor | None) -> Tensor:
    """The equation, tap by tap; `documents` `(b, L + k - 1)` says which one each input belongs to."""
    taps = weight.shape[1]
    length = seen.shape[1] - taps + 1
    columns = weight.t()
    y = seen[:, taps - 1 :] * columns[-1]
    for start in range(taps - 1):
        window = seen[:, start : start + length]
        if documents is not None:
            other = documents[:, start : start + length] != documents[:, taps - 1 :]
            window = window.masked_fill(other[..., None], 0)
        y.addcmul_(window, columns[start])
    return y if bias is None else y + bias
