"""Starting values of weights: as published, or scaled to the width of each layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from torch import Tensor, nn

Start = Literal["published", "fan_in"]
PUBLISHED = 0.02
"""Deviation of the weights of ViT, BERT, GPT-2 and most of their descendants, whatever their width."""

_start: ContextVar[Start] = ContextVar("start", default="published")


@contextmanager
def starting(start: Start) -> Iterator[None]:
    """Inside, weights that name no deviation of their own start "published" (0.02) or "fan_in" (inputs^-0.5).

    The published deviation suits layers of some hundred inputs. Narrow ones would hand on next to nothing: a ViT of
    64 channels learns the digits in a third of the steps from weights scaled to their inputs.
    """
    token = _start.set(start)
    try:
        yield
    finally:
        _start.reset(token)


def chooses_start(construct: Callable[..., None]) -> Callable[..., None]:
    """A model's constructor with an argument `init` decides with it how all parts inside start."""

    @functools.wraps(construct)
    def constructed(self: nn.Module, *args: Any, init: Start = "published", **options: Any) -> None:
        with starting(init):
            construct(self, *args, init=init, **options)

    return constructed


def published() -> bool:
    """Whether parts start as published, and not scaled to their width."""
    return _start.get() == "published"


def trunc_normal(weight: Tensor, std: float | None = None) -> Tensor:
    """Normal with deviation `std`, cut at two deviations; None: what `starting` says."""
    if weight.is_meta:
        return weight
    deviation = PUBLISHED if published() else 1 / math.sqrt(max(weight[0].numel(), 1))
    deviation = deviation if std is None else std
    return nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


def linear(inputs: int, outputs: int, bias: bool = True, std: float | None = None) -> nn.Linear:
    """A linear layer with truncated normal weights and zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    trunc_normal(layer.weight, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
