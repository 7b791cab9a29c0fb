"""The fast selective scan: blocks of time that stay in the cache, and a backward pass that recomputes them.

What costs is not the arithmetic but passing (L, N, D) tensors through memory. So time is cut into blocks whose states
fit the processor's cache; inside a block everything is one wide operation except the recurrence itself, one
multiply-add per token on contiguous memory (states before channels: (N, D), so that a row is long). Nothing is ever
divided by a decay, so decays may underflow to zero. Scans by doubling and by parallel chunks were slower here: they
read and write the (L, N, D) tensors more often.

For the gradient the state at the start of each block is kept, (L / steps) * N * D numbers, and the rest recomputed.
With Y the gradient of C_t h_t, the gradient of the state runs backwards,

    g_t = C_t Y_t + exp(delta_{t+1} A) g_{t+1},

and every other gradient is a product of g_t with what entered at t. One letter per axis: t time, r rows of the batch,
g groups, n states, p channels of a group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from anyformer.kernels.selective_scan.weights import Block, Constant, Selective

BLOCK = 800_000
"""Numbers in one block of states: 3.2 MB, the best of 0.4, 0.8, 1.6 and 3.2 MB on two cores with 2 MB of cache."""


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
    """The blocked form; arguments and results as in `anyformer.kernels.selective_scan`."""
    inputs = (u, delta, A, B, C, D, z, delta_bias, resets, state)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    y, last, _ = torch.ops.anyformer.selective_scan(*inputs, delta_softplus, keep)
    return y, last


def block_size(channels: int, states: int) -> tuple[int, int]:
    """Rows of the batch and steps of time that one block holds; of the model's shape alone, so that it compiles."""
    token = max(1, channels * states)
    steps = min(max(BLOCK // token, 16), 256)
    return max(1, BLOCK // (steps * token)), steps


class _Scan:
    """The inputs of one scan, block by block."""

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        delta_bias: Tensor | None,
        resets: Tensor | None,
        softplus: bool,
    ):
        self.batch, self.length, self.channels = u.shape
        self.states = A.shape[1]
        self.groups = groups_of(B, C)
        self.wide = torch.promote_types(u.dtype, torch.float32)
        self.u, self.delta, self.z, self.resets, self.softplus = u, delta, z, resets, softplus
        self.A = Constant(A, self.groups, self.wide)
        self.B, self.C = ((Constant if w.ndim == 2 else Selective)(w, self.groups, self.wide) for w in (B, C))
        self.D, self.bias = (
            None if v is None else v.to(self.wide).unflatten(0, (self.groups, -1)) for v in (D, delta_bias)
        )
        steps = block_size(self.channels, self.states)[1]
        self.steps = max(1, min(steps, self.length))
        rows = max(1, BLOCK // (self.steps * max(1, self.channels * self.states)))  # a short sequence leaves room
        self.rows = [slice(r, min(r + rows, self.batch)) for r in range(0, self.batch, rows)]
        self.times = [slice(t, min(t + self.steps, self.length)) for t in range(0, self.length, self.steps)]

    def scratch(self, rows: slice, steps: int) -> Tensor:
        """Memory for `steps` states (t, r, g, n, p), reused by every block of these rows."""
        shape = (steps, rows.stop - rows.start, self.groups, self.states, self.channels // self.groups)
        return self.u.new_empty(shape, dtype=self.wide)

    def tokens(self, x: Tensor, block: Block) -> Tensor:
        """(b, L, D) to this block's (t, r, g, p)."""
        return x[block].to(self.wide).unflatten(-1, (self.groups, -1)).transpose(0, 1)

    def step_sizes(self, block: Block) -> tuple[Tensor, Tensor]:
        """Delta before and after softplus, (t, r, g, p)."""
        raw = self.tokens(self.delta, block)
        if self.bias is not None:
            raw = raw + self.bias
        return raw, F.softplus(raw) if self.softplus else raw

    def inside(self, state: Tensor) -> Tensor:
        """(b, D, N) to (b, g, n, p)."""
        return state.to(self.wide).unflatten(1, (self.groups, -1)).transpose(2, 3).contiguous()

    def outside(self, state: Tensor) -> Tensor:
        """(b, g, n, p) to (b, D, N)."""
        return state.transpose(2, 3).flatten(1, 2).contiguous()

    def run(self, block: Block, dt: Tensor, memory: _Memory) -> None:
        """Fill a block's decays and its states, which follow `memory.before`."""
        n, h = len(dt), memory.before
        decay = torch.mul(dt[..., None, :], self.A.now, out=memory.decay[:n]).exp_()
        if self.resets is not None:
            decay.masked_fill_(self.resets[block].t()[:, :, None, None, None], 0)
        enters = (dt * self.tokens(self.u, block))[..., None, :]
        torch.mul(enters, self.B.at(block), out=memory.states[:n])
        for a, s in memory.pairs[:n]:
            h = s.addcmul_(a, h)


class _Memory:
    """Decays and states of one block, reused by all of these rows; `before` and the states lie one after the other."""

    def __init__(self, scan: _Scan, rows: slice):
        self.decay, self.history = scan.scratch(rows, scan.steps), scan.scratch(rows, scan.steps + 1)
        self.before, self.states = self.history[0], self.history[1:]
        # Taken apart once: a view costs as much time as the arithmetic of a small step.
        self.pairs = list(zip(self.decay.unbind(0), self.states.unbind(0), strict=True))


def groups_of(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share weights."""
    return max([w.shape[2] for w in (B, C) if w.ndim == 4], default=1)


def _rows(x: Tensor) -> Tensor:
    """(t, r, g, p) to (r, t, D)."""
    return x.transpose(0, 1).flatten(2)


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
    scan = _Scan(u, delta, A, B, C, D, z, delta_bias, resets, softplus)
    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    last = scan.scratch(slice(0, scan.batch), 1)[0]
    last = last.zero_() if state is None else last.copy_(scan.inside(state))
    kept = last.new_empty(len(scan.times) if keep else 0, *last.shape)
    with torch.autocast(u.device.type, enabled=False):
        for rows in scan.rows:
            memory = _Memory(scan, rows)
            memory.before.copy_(last[rows])
            for i, time in enumerate(scan.times):
                block = (rows, time)
                states = memory.states[: time.stop - time.start]
                if keep:
                    kept[i, rows] = memory.before
                scan.run(block, scan.step_sizes(block)[1], memory)
                memory.before.copy_(states[-1])
                out = scan.C.read(states, block)
                if scan.D is not None:
                    out.addcmul_(scan.tokens(u, block), scan.D)
                if z is not None:
                    out.mul_(F.silu(scan.tokens(z, block)))
                y[block] = _rows(out)
            last[rows] = memory.before
    return y, scan.outside(last), kept


@_forward.register_fake
def _(u, delta, A, B, C, D, z, delta_bias, resets, state, softplus, keep):
    (batch, length, channels), states = u.shape, A.shape[1]
    groups, steps = groups_of(B, C), block_size(channels, states)[1]
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
    """Gradients of u, delta, A, B, C, D, z, delta_bias and the first state; empty for D and z that were not given."""
    scan = _Scan(u, delta, A, B, C, D, z, delta_bias, resets, softplus)
    if grad_y is None:
        grad_y = torch.zeros_like(u)
    grad_u, grad_delta = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (u, delta))
    grad_z = u.new_empty(0) if z is None else torch.empty_like(z, memory_format=torch.contiguous_format)
    grad_D, grad_bias = (u.new_zeros(scan.groups, scan.channels // scan.groups, dtype=scan.wide) for _ in range(2))
    carry = scan.scratch(slice(0, scan.batch), 1)[0]
    carry = carry.zero_() if grad_last is None else carry.copy_(scan.inside(grad_last))
    with torch.autocast(u.device.type, enabled=False):
        for rows in scan.rows:
            memory, grads = _Memory(scan, rows), scan.scratch(rows, scan.steps)
            later = list(zip(grads.unbind(0), memory.decay[1:].unbind(0), grads[1:].unbind(0), strict=False))
            for i, time in reversed(list(enumerate(scan.times))):
                block, n = (rows, time), time.stop - time.start
                decay, g, states = memory.decay[:n], grads[:n], memory.states[:n]
                raw, dt = scan.step_sizes(block)
                x, out = scan.tokens(u, block), scan.tokens(grad_y, block)
                memory.before.copy_(kept[i, rows])
                scan.run(block, dt, memory)

                if z is not None:
                    ungated = scan.C.read(states, block)
                    if scan.D is not None:
                        ungated.addcmul_(x, scan.D)
                    gate = scan.tokens(z, block)
                    slope = torch.sigmoid(gate)
                    grad_z[block] = _rows(out * ungated * slope * (1 + gate * (1 - slope)))
                    out = out * gate * slope
                scan.C.collect(states, out, block)
                torch.mul(out[..., None, :], scan.C.at(block), out=g)
                g[-1] += carry[rows]
                for now, fades, after in reversed(later[: n - 1]):
                    now.addcmul_(fades, after)
                carry[rows] = decay[0] * g[0]

                entered = scan.B.read(g, block)  # gradient of delta * u
                scan.B.collect(g, dt * x, block)
                rate = decay.mul_(memory.history[:n]).mul_(g)  # gradient of delta * A, the decay's exponent
                scan.A.collect(rate, dt, block)
                to_u, to_delta = entered * dt, torch.addcmul(scan.A.read(rate, block), entered, x)
                if scan.D is not None:
                    to_u.addcmul_(out, scan.D)
                    grad_D += (out * x).sum((0, 1))
                if softplus:
                    to_delta.mul_(torch.sigmoid(raw))
                grad_bias += to_delta.sum((0, 1))
                grad_u[block], grad_delta[block] = _rows(to_u), _rows(to_delta)
    vectors = [
        u.new_empty(0) if given is None else grad.flatten().to(given.dtype, copy=True)
        for given, grad in ((D, grad_D), (delta_bias, grad_bias))
    ]
    weights = [w.gradient() for w in (scan.A, scan.B, scan.C)]
    return grad_u, grad_delta, *weights, vectors[0], grad_z, vectors[1], scan.outside(carry)


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
