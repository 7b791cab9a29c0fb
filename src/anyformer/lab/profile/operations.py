"""Count the operations of a model, by what it executes and not by what its layers are called."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten


@dataclass(frozen=True)
class Operations:
    """What one forward pass computes.

    Attributes:
        multiply_adds: multiplications with an addition, in matrix products, convolutions, attention, Fourier
            transforms and every operator with a formula of its own. This is what papers mostly call FLOPs.
        other: elements that all other arithmetic touches: activations, norms, sums, scans, pooling.
        by_operator: multiply-adds per operator, largest first.
        uncounted: operators from outside torch that have no formula; their inside is in neither number.
    """

    multiply_adds: int
    other: int
    by_operator: dict[str, int]
    uncounted: tuple[str, ...]

    @property
    def total(self) -> int:
        """Multiply-adds and all other arithmetic."""
        return self.multiply_adds + self.other


def operations(model: Callable[..., Any], *inputs: Any, **options: Any) -> Operations:
    """Count what `model(*inputs, **options)` computes, in evaluation mode.

    The model runs once. Gradients are enabled and torch's fused encoder path is off, because it hides its products
    from counters; nothing is kept for a backward pass. Attention counts every pair of query and key, masked ones
    too. An operator of another library counts by the formula registered for it with
    `torch.utils.flop_counter.register_flop_formula`.
    """
    elementwise = _Elementwise()
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    keep_nothing = torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: nothing)
    with evaluation(model), plain_encoder(), torch.enable_grad(), keep_nothing, counter, elementwise:
        model(*inputs, **options)
    counts = counter.get_flop_counts().get("Global", {})
    by_operator = {str(op): flops // 2 for op, flops in sorted(counts.items(), key=lambda c: -c[1])}
    uncounted = tuple(sorted(elementwise.foreign - {str(op) for op in counts}))
    return Operations(counter.get_total_flops() // 2, elementwise.count, by_operator, uncounted)


def count_operations(model: Callable[..., Any], *inputs: Any, **options: Any) -> int:
    """Multiply-adds of `model(*inputs, **options)`; see `operations` for what is counted."""
    return operations(model, *inputs, **options).multiply_adds


@contextmanager
def evaluation(model: Callable[..., Any]) -> Iterator[None]:
    """Every module of the model in evaluation mode inside, as it was outside."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def plain_encoder() -> Iterator[None]:
    """torch's fused encoder and attention layers off."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


# -- formulas that torch lacks; each returns two per multiply-add, as torch's own do --------------------------


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _matrix_vector(matrix: Any, vector: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(matrix)


def _add_matrix_vector(bias: Any, matrix: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(matrix)


def _recurrent_layer(inputs: Any, weight: Any, hidden: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    steps_and_rows = math.prod(inputs[:-1])
    return 2 * steps_and_rows * (math.prod(weight) + math.prod(hidden))


def _fourier(x: Tensor, dim: list[int], *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """5 n log2 n per complex transform of n points (Cooley and Tukey's radix-2 count), half of it for a real one."""
    points = math.prod(max(x.shape[d], out_val.shape[d]) for d in dim)  # the real side has them all
    transforms = max(x.numel(), out_val.numel()) // max(points, 1)
    real = not (x.is_complex() and out_val.is_complex())
    return int(transforms * 5 * points * math.log2(max(points, 2)) * (0.5 if real else 1.0))


_fourier._get_raw = True  # type: ignore[attr-defined]  # torch's mark for a formula that takes tensors, not shapes

FORMULAS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten.mv: _matrix_vector,
    aten.dot: _matrix_vector,
    aten.vdot: _matrix_vector,
    aten.addmv: _add_matrix_vector,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten._fft_r2c: _fourier,
    aten._fft_c2r: _fourier,
    aten._fft_c2c: _fourier,
}
"""Operators that torch's counter takes for free, and their formulas."""

_MOVES = {
    aten.clone, aten.copy_, aten.copy, aten._to_copy, aten.fill_, aten.fill, aten.zero_, aten.where, aten.masked_fill,
    aten.masked_fill_, aten.detach, aten.alias, aten.lift_fresh,
}  # fmt: skip
"""Operators that torch calls pointwise, and that compute nothing."""

_READS = {
    aten.sum, aten.mean, aten.var, aten.var_mean, aten.std, aten.amax, aten.amin, aten.max, aten.min, aten.prod,
    aten.cumsum, aten.cumprod, aten.logcumsumexp, aten.logsumexp, aten.norm, aten.linalg_vector_norm,
    aten._softmax, aten._log_softmax, aten.native_layer_norm, aten._fused_rms_norm, aten.native_group_norm,
    aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_no_training,
    aten.cudnn_batch_norm, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d, aten.topk, aten.sort,
}  # fmt: skip
"""Operators whose work is their input: one per element read."""

_POOLS = {
    aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten.max_pool2d_with_indices, aten.max_pool3d_with_indices,
}  # fmt: skip
"""Operators that read one window per element that they write."""


class _Elementwise(TorchDispatchMode):
    """Counts arithmetic outside products, and names operators of other libraries."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.foreign: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = getattr(func, "overloadpacket", func)
        if getattr(func, "namespace", "aten") not in ("aten", "prim", "prims", "higher_order"):
            self.foreign.add(str(packet))
        elif packet in _POOLS:
            self.count += _elements(out) * math.prod(args[1])
        elif packet in _READS:
            self.count += _elements(args[0])
        elif torch.Tag.pointwise in getattr(func, "tags", ()) and packet not in _MOVES:
            self.count += _elements(out)
        return out


def _elements(tree: Any) -> int:
    """Elements of the first tensor of a result."""
    return next((t.numel() for t in tree_leaves(tree) if isinstance(t, Tensor)), 0)
