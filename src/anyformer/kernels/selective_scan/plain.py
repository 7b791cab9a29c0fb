"""The selective scan as its equation: a loop over time. The truth that the fast form is tested against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    resets: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The equation, one token after the other; arguments and results as in `anyformer.kernels.selective_scan`.

    Differentiable to any order. Time and, where gradients are kept, memory: b * L * D * N.
    """
    wide = torch.promote_types(u.dtype, torch.float32)
    x, dt, A = u.to(wide), delta.to(wide), A.to(wide)
    if delta_bias is not None:
        dt = dt + delta_bias.to(wide)
    if delta_softplus:
        dt = F.softplus(dt)
    batch, length, channels = u.shape
    B, C = B.to(wide), C.to(wide)
    h = u.new_zeros(batch, channels, A.shape[1], dtype=wide) if state is None else state.to(wide)
    outputs = [x.new_zeros(batch, 0, channels)]
    for t in range(length):
        if resets is not None:
            h = h.masked_fill(resets[:, t, None, None], 0)
        h = torch.exp(dt[:, t, :, None] * A) * h + _at(B, t, channels) * (dt[:, t] * x[:, t])[..., None]
        outputs.append((h * _at(C, t, channels)).sum(-1)[:, None])
    y = torch.cat(outputs, 1)
    if D is not None:
        y = y + x * D.to(wide)
    if z is not None:
        y = y * F.silu(z.to(wide))
    return y.to(u.dtype), h


def _at(weights: Tensor, t: int, channels: int) -> Tensor:
    """B or C at time t, in a shape that broadcasts to (b, D, N)."""
    if weights.ndim == 2:
        return weights
    now = weights[:, t] if weights.ndim == 4 else weights[:, t, None]
    return now if now.shape[1] == 1 else now.repeat_interleave(channels // now.shape[1], dim=1)
