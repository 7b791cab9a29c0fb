"""The fast selective scan as one operator with its own gradient: what is done to tokens alone, around the recurrence.

Step sizes, what enters, the skip and the gate are wide operations on (b, L, D). Between them the recurrence

    h_t = exp(dt_t A) h_{t-1} + B_t e_t,   y_t = C_t h_t,   e_t = dt_t u_t

and its gradient have two forms, which agree in what they take and give: `blocked`, in torch, and `compiled`, by numba,
where that is installed. Neither keeps (L, N, D) tensors: for the gradient the state at the start of each block is kept,
(L / steps) * N * D numbers, and the rest recomputed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from anyformer.kernels.selective_scan import blocked

WORTH = 1 << 22
"""Numbers of state over all tokens from which the compiled form is taken; fewer do not repay that it is loaded."""


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    resets: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The operator; arguments and results as in `anyformer.kernels.selective_scan`. First derivatives only."""
    inputs = (u, delta, A, B, C, D, z, delta_bias, resets, state)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    y, last, _ = torch.ops.anyformer.selective_scan(*inputs, delta_softplus, keep)
    return y, last


def form(dt: Tensor, A: Tensor, B: Tensor, C: Tensor, softplus: bool) -> Any:
    """The module whose `read` and `gradients` are taken, `compiled` or `blocked`."""
    serves = (
        dt.device.type == "cpu"
        and dt.dtype == torch.float32
        and min(B.ndim, C.ndim) > 2
        and dt.numel() * A.shape[1] >= WORTH
        and bool((A <= 0).all())
        and (softplus or bool((dt >= 0).all()))
    )
    return (compiled() if serves else None) or blocked


@cache
def compiled() -> Any:
    """The compiled form; None without numba, or with one that is not made for the numpy that is here."""
    try:
        return import_module("anyformer.kernels.selective_scan.compiled")
    except ImportError:
        return None


class _Tokens:
    """What is computed of the tokens alone, `(b, L, D)` in at least float32."""

    def __init__(self, u: Tensor, delta: Tensor, bias: Tensor | None, softplus: bool):
        self.wide = torch.promote_types(u.dtype, torch.float32)
        self.u, self.raw = u.to(self.wide), delta.to(self.wide)
        if bias is not None:
            self.raw = self.raw + bias.to(self.wide)
        self.dt = F.softplus(self.raw) if softplus else self.raw
        self.enters = self.dt * self.u


@torch.library.custom_op(
    "anyformer::selective_scan",
    mutates_args=(),
    schema="(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias,"
    " Tensor? resets, Tensor? state, bool softplus, bool keep) -> (Tensor, Tensor, Tensor)",
)
def _forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    resets: Tensor | None,
    state: Tensor | None,
    softplus: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y `(b, L, D)`, the last state `(b, D, N)`, and the states before each block where they are to be kept."""
    with torch.autocast(u.device.type, enabled=False):
        tokens = _Tokens(u, delta, delta_bias, softplus)
        scan = blocked.Scan(tokens.dt, tokens.enters, A, B, C, resets)
        before = scan.inside(u.new_zeros(len(u), *A.shape) if state is None else state)
        y, last, kept = form(tokens.dt, A, B, C, softplus).read(scan, before, keep)
        if D is not None:
            y.addcmul_(tokens.u, D.to(tokens.wide))
        if z is not None:
            y.mul_(torch.ops.aten.silu.out(z.to(tokens.wide), out=tokens.enters))  # no longer needed
    return y.to(u.dtype), scan.outside(last), kept


@_forward.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, resets, state, softplus, keep):
    (batch, length, channels), states = u.shape, A.shape[1]
    groups, steps = blocked.groups_of(B, C), blocked.block_size(channels, states)[1]
    blocks = (length + steps - 1) // steps if keep else 0
    wide = torch.promote_types(u.dtype, torch.float32)
    return (
        u.new_empty(u.shape),
        u.new_empty(batch, channels, states, dtype=wide),
        u.new_empty(blocks, batch, groups, states, channels // groups, dtype=wide),
    )


@torch.library.custom_op(
    "anyformer::selective_scan_backward",
    mutates_args=(),
    schema="(Tensor? grad_y, Tensor? grad_last, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D,"
    " Tensor? z, Tensor? delta_bias, Tensor? resets, Tensor kept, bool softplus)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    grad_y: Tensor | None,
    grad_last: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    resets: Tensor | None,
    kept: Tensor,
    softplus: bool,
) -> tuple[Tensor, ...]:
    """Gradients of u, delta, A, B, C, D, z, delta_bias and the first state; empty for what was not given."""
    with torch.autocast(u.device.type, enabled=False):
        tokens = _Tokens(u, delta, delta_bias, softplus)
        scan = blocked.Scan(tokens.dt, tokens.enters, A, B, C, resets)
        out = torch.zeros_like(tokens.u) if grad_y is None else grad_y.to(tokens.wide)
        gate = slope = None
        if z is not None:
            gate = z.to(tokens.wide)
            slope = torch.sigmoid(gate)
            out, given = out * gate * slope, out
        after = scan.inside(u.new_zeros(len(u), *A.shape) if grad_last is None else grad_last)
        y, entered, faded, grad_A, grad_B, grad_C, before = form(tokens.dt, A, B, C, softplus).gradients(
            scan, out.contiguous(), after, kept, z is not None
        )
        grad_z, grad_D, grad_bias = (u.new_empty(0) for _ in range(3))
        if gate is not None and slope is not None:
            if D is not None:
                y.addcmul_(tokens.u, D.to(tokens.wide))
            grad_z = (given * y * slope * (1 + gate * (1 - slope))).to(z.dtype)
        grad_u, grad_delta = entered * tokens.dt, faded.addcmul_(entered, tokens.u)
        if D is not None:
            grad_u.addcmul_(out, D.to(tokens.wide))
            grad_D = (out * tokens.u).sum((0, 1)).to(D.dtype)
        if softplus:
            grad_delta.mul_(torch.sigmoid(tokens.raw))
        if delta_bias is not None:
            grad_bias = grad_delta.sum((0, 1)).to(delta_bias.dtype)
    return (
        grad_u.to(u.dtype), grad_delta.to(delta.dtype), grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias,
        scan.outside(before),
    )  # fmt: skip


@_backward.register_fake
def _(grad_y, grad_last, u, delta, A, B, C, D, z, delta_bias, resets, kept, softplus):
    grads = [u.new_empty(0) if t is None else t.new_empty(t.shape) for t in (u, delta, A, B, C, D, z, delta_bias)]
    return *grads, kept.new_empty(u.shape[0], u.shape[2], A.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, state, softplus, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.softplus = softplus
    ctx.state_dtype = None if state is None else state.dtype
    ctx.given = [t is not None for t in tensors[:8]]
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None, grad_kept: None) -> tuple[Any, ...]:
    *grads, grad_state = torch.ops.anyformer.selective_scan_backward(
        grad_y, grad_last, *ctx.saved_tensors, ctx.softplus
    )
    grads = [g if given else None for g, given in zip(grads, ctx.given, strict=True)]
    return *grads, None, None if ctx.state_dtype is None else grad_state.to(ctx.state_dtype), None, None


_forward.register_autograd(_gradient, setup_context=_setup)


@register_flop_formula(torch.ops.anyformer.selective_scan)
def _forward_flops(u: Any, delta: Any, A: Any, *args: Any, **kwargs: Any) -> int:
    """Of shapes. Per token, channel and state: the exponent, exponential, what enters, the recurrence (2), y (2)."""
    return 7 * u[0] * u[1] * u[2] * A[1]


@register_flop_formula(torch.ops.anyformer.selective_scan_backward)
def _backward_flops(grad_y: Any, grad_last: Any, u: Any, delta: Any, A: Any, *args: Any, **kwargs: Any) -> int:
    """Of shapes. The states again (5), their gradient (3), the exponent's (2), and 2 for each of u, B, C, A, delta."""
    return 20 * u[0] * u[1] * u[2] * A[1]
