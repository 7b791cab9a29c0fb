"""The optimizer, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anyformer.core.errors import FitError
from anyformer.core.registry import resolve
from anyformer.lab.train.config import OPTIMIZERS, TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a run, with decay on matrices only.

    AdamW: Loshchilov and Hutter 2017, "Decoupled weight decay regularization", arXiv:1711.05101, algorithm 2. Its
    state is there from the start, so that a checkpoint can be read into it.
    """
    row = OPTIMIZERS[config.optimizer]
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = row.betas if config.betas is None else tuple(config.betas)
    groups = [g for g in groups if g["params"]]
    if not groups:
        raise FitError("no parameter of this model trains: set requires_grad of those that shall.")
    optimizer = resolve(row.target)(groups, lr=config.learning_rate, betas=betas, **row.options)
    for p in trained:
        optimizer.state[p] = {name: torch.zeros((), dtype=torch.float32, device=p.device) for name in row.counts}
        optimizer.state[p] |= {name: torch.zeros_like(p) for name in row.state}
    return optimizer


def rate(progress: float, config: TrainConfig) -> float:
    """Share of the top rate after this share of the budget: a linear rise, then a cosine to `final_rate`.

    Loshchilov and Hutter 2016, "SGDR", arXiv:1608.03983, equation 5, without restarts.
    """
    if progress < config.warmup:
        return progress / config.warmup
    down = (progress - config.warmup) / max(1 - config.warmup, 1e-12)
    return config.final_rate + (1 - config.final_rate) * (1 + math.cos(math.pi * min(down, 1.0))) / 2


class Average:
    """Exponential moving average of all weights and floating-point buffers of a model.

    The decay starts low and rises to `decay`, as min(decay, (1 + t) / (10 + t)), so that the starting weights are
    soon forgotten in a short run.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights: dict[str, Tensor] = {name: t.detach().clone() for name, t in _floating(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights after step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in _floating(model).items():
            self.weights[name].lerp_(tensor.detach(), 1 - decay)

    @torch.no_grad()
    def exchange(self, model: nn.Module) -> None:
        """Put the average into the model and the model's weights here."""
        for name, tensor in _floating(model).items():
            held = tensor.detach().clone()
            tensor.detach().copy_(self.weights[name])
            self.weights[name].copy_(held)


@contextmanager
def averaged(model: nn.Module, average: Average | None) -> Iterator[None]:
    """Inside, the model has its averaged weights, where an average is kept."""
    if average is None:
        yield
        return
    average.exchange(model)
    try:
        yield
    finally:
        average.exchange(model)


def _floating(model: nn.Module) -> dict[str, Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t for name, t in named.items() if t.is_floating_point()}
