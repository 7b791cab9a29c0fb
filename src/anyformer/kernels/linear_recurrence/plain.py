"""The recurrence as it is written: one token after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    bonus: Tensor | None,
    resets: Tensor | None,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Arguments as the dispatcher's. Cost: n k v multiply-adds a head, n steps one after the other."""
    outputs = []
    for t in range(q.shape[2]):
        query, key, value = q[:, :, t, :, None], k[:, :, t, :, None], v[:, :, t, None]
        if resets is not None:
            state = state.masked_fill(resets[:, t, None, None, None], 0)
        if bonus is not None:
            outputs.append((query * (state + bonus[..., None] * key * value)).sum(-2))
        if log_decay is not None:
            decay = log_decay[:, :, t].exp()
            state = state * (decay[..., None] if decay.ndim == 3 else decay[..., None, None])
        if beta is not None:
            value = beta[:, :, t, None, None] * (value - (key * state).sum(-2, keepdim=True))
        state = state + key * value
        if bonus is None:
            outputs.append((query * state).sum(-2))
    return (torch.stack(outputs, 2) if outputs else torch.zeros_like(v)), state
