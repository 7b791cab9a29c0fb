"""Memory that training needs for activations: what autograd saves for the backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class _Saved:
    """One tensor that autograd keeps; its end is noticed when autograd lets go of it."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class _Ledger:
    """Bytes of distinct storages that are saved now, and the most that ever were."""

    def __init__(self, free: set[int]):
        self.free = free
        self.holders: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def pack(self, tensor: Tensor) -> _Saved:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        saved = _Saved(tensor)
        if key not in self.free and size:
            if not self.holders.get(key):
                self.now += size
                self.peak = max(self.peak, self.now)
            self.holders[key] = self.holders.get(key, 0) + 1
            weakref.finalize(saved, self.release, key, size)
        return saved

    def release(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= size


def activation_memory(model: Callable[..., Any], *inputs: Any, **options: Any) -> int:
    """Peak bytes of tensors that one forward and backward pass saves, parameters and buffers aside.

    A storage that several operations save counts once. The backward pass runs too, so that gradient checkpointing
    shows what it really holds. The gradients of parameters are left as they were. The model runs in the mode it is
    in: dropout masks count while training.
    """
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    buffers = list(model.buffers()) if isinstance(model, nn.Module) else []
    ledger = _Ledger({t.untyped_storage().data_ptr() for t in (*parameters, *buffers)})
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda saved: saved.tensor):
        outputs = [t for t in tree_leaves(model(*inputs, **options)) if isinstance(t, Tensor) and t.requires_grad]
        wanted = [t for t in (*parameters, *tree_leaves(inputs)) if isinstance(t, Tensor) and t.requires_grad]
        if outputs and wanted:
            total = torch.stack([t.float().sum() for t in outputs]).sum()
            torch.autograd.grad(total, wanted, allow_unused=True)
    return ledger.peak
