"""What claims on generated series and videos share: every arm is trained alike, on samples drawn by one seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def fit(model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], size: int, *, steps: int, rate: float, seed: int,
        batch: int = 64) -> nn.Module:  # fmt: skip
    """Train with AdamW and a one-cycle rate; `loss` takes the model and the indices `(batch,)` of a step's samples."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(steps):
        value = loss(model, torch.randint(size, (batch,), generator=generator))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()
