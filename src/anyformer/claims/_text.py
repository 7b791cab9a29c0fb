"""What claims on text share: a small model, trained on windows of bytes, and its loss on others."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor, nn

from anyformer.claims._loop import one_cycle
from anyformer.tasks.language import Text

LENGTH = 64
M = TypeVar("M", bound=nn.Module)


@cache
def task() -> Text:
    """Bytes of Python's documentation, in windows of 64."""
    return Text(length=LENGTH)


def trained(model: M, seed: int, *, steps: int, batch: int = 32, rate: float = 3e-3) -> M:
    """The model after `steps` of AdamW under one cycle; batches follow from the seed."""
    return one_cycle(model, drawn(model, seed, steps=steps, batch=batch), steps=steps, rate=rate, decay=0.01)


def drawn(model: nn.Module, seed: int, *, steps: int, batch: int) -> Callable[[], Tensor]:
    """What gives the model's loss on the next random windows, others at each of the `steps` and for each seed."""
    generator, turn = torch.Generator().manual_seed(seed), count(seed * steps)

    def loss() -> Tensor:
        rows = torch.randint(task().size("train") - 1, (batch,), generator=generator)
        return task().loss(model, task().sample("train", rows, seed=next(turn), train=True))

    return loss


def nats(model: nn.Module, windows: int = 512) -> float:
    """Mean cross-entropy of a byte on the first validation windows."""
    with torch.no_grad():
        batch = task().sample("valid", torch.arange(min(windows, task().size("valid"))))
        return float(task().loss(model, batch))


def bits(loss: float) -> float:
    """Nats as bits."""
    return loss / math.log(2)
