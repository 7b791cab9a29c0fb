"""A few steps of training, for tests that a loss can be brought down."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(model: nn.Module, loss: Callable[[], Tensor], *, steps: int, rate: float = 3e-3) -> list[float]:
    """The loss before each of so many steps of AdamW."""
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=rate), []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(float(value.detach()))
    return found
