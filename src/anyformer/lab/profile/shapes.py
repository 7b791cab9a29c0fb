"""Run a model for its shapes alone: no memory and no time, however large it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, tensors are made on torch's meta device: they have shapes and types and no numbers.

    A single number that a model asks for, to check its input, is zero. What makes shapes from numbers (`nonzero`,
    boolean indexing) raises `NotImplementedError` or `RuntimeError`, as on any meta tensor.
    """
    with torch.device("meta"), _Zeros():
        yield


class _Zeros(TorchDispatchMode):
    """Answers zero where a meta tensor is asked for its number."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return torch.zeros((), dtype=args[0].dtype, device="cpu").item()
        return func(*args, **(kwargs or {}))
