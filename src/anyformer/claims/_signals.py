"""What claims on generated series and videos share: every arm is trained alike, on samples drawn by one seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anyformer.claims._loop import one_cycle


def fit(model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], size: int, *, steps: int, rate: float, seed: int,
        batch: int = 64) -> nn.Module:  # fmt: skip
    """Train with AdamW and a one-cycle rate; `loss` takes the model and the indices `(batch,)` of a step's samples."""
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        return loss(model, torch.randint(size, (batch,), generator=generator))

    return one_cycle(model, drawn, steps=steps, rate=rate, decay=0.01)
