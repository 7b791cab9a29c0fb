"""What claims with a loss of their own share: AdamW over some steps, by default under one cycle of the rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

M = TypeVar("M", bound=nn.Module)


def one_cycle(
    model: M,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    warm: float = 0.1,
    decay: float = 0.0,
) -> M:
    """The model after training, for evaluation.

    Args:
        model: trained in place; parameters without gradients stay as they are.
        loss: of the next batch; called once a step.
        steps: of the optimizer.
        rate: the highest, reached after the share `warm` of the steps.
        warm: share of the steps in which the rate rises.
        decay: of the weights, decoupled from the rate's adaptation.
    """
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=decay)
    advance(model, loss, optimizer, OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm), steps)
    return model.eval()


def advance(
    model: nn.Module, loss: Callable[[], Tensor], optimizer: Optimizer, schedule: LRScheduler, steps: int
) -> None:
    """So many steps further, gradients clipped to norm 1; the model is left in training mode."""
    model.train()
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
