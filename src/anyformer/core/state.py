"""States of causal models: nested dictionaries and lists of tensors with the batch first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anyformer.core.errors import SizeError

State = Any
"""A tensor `(b, ...)`, or a dict, list or tuple of states. Nothing else: so it can be reordered, saved and counted."""


def map_state(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """Apply `change` to every tensor of a state."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {k: map_state(v, change) for k, v in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map_state(v, change) for v in state)
    return state


def select_rows(state: State, rows: Tensor) -> State:
    """The state of these rows of the batch, in this order; beams are reordered and grown with it."""
    return map_state(state, lambda t: t.index_select(0, rows))


def tensors(state: State) -> list[Tensor]:
    """All tensors of a state."""
    found: list[Tensor] = []
    map_state(state, lambda t: (found.append(t), t)[1])
    return found


def nbytes(state: State) -> int:
    """Bytes that a state holds."""
    return sum(t.numel() * t.element_size() for t in tensors(state))


def check_batch(state: State, batch: int, what: str) -> None:
    """Raise `SizeError` where a state was made for another number of rows."""
    for tensor in tensors(state):
        if tensor.shape[0] != batch:
            raise SizeError(
                f"{what} continues a state of {tensor.shape[0]} rows with {batch} rows: "
                f"make one with init_state({batch}), or pick rows with core.state.select_rows."
            )


def save_state(state: State, path: str) -> None:
    """Write a state to a file; read it back with `load_state`."""
    torch.save(state, path)


def load_state(path: str) -> State:
    """Read a state written by `save_state`; tensors only, no code is run."""
    return torch.load(path, weights_only=True)
