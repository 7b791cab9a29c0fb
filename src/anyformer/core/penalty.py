"""Losses that a part brings with it: a mixture's balance, a prior on its gates, a distance of codes.

A part keeps its penalty during a forward pass in training; who trains takes the sum after the forward pass and adds
it to the loss. So a model's outputs stay what they are, and no task has to know which parts it trains.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KEPT = "_penalty"


def keep_penalty(part: nn.Module, penalty: Tensor) -> None:
    """Keep a part's own loss until `take_penalties`; nothing happens outside of training.

    A second forward pass before it is taken replaces the first one's: take after each.

    Args:
        part: the module that the loss belongs to.
        penalty: a scalar with a gradient, already weighed, a mean over the batch.
    """
    if part.training and torch.is_grad_enabled():
        setattr(part, _KEPT, penalty)


def take_penalties(model: nn.Module) -> Tensor | None:
    """The sum of what the model's parts kept since the last call, and forget it; None where none kept any."""
    kept = [vars(part).pop(_KEPT) for part in model.modules() if _KEPT in vars(part)]
    return torch.stack(kept).sum() if kept else None
