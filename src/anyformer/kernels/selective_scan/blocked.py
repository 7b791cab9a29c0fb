"""The recurrence of the selective scan in torch: blocks of time that stay in the cache.

What costs is not the arithmetic but passing (L, N, D) tensors through memory. So time is cut into blocks whose states
fit the processor's cache; inside a block everything is one wide operation except the recurrence itself, one
multiply-add per token on contiguous memory (states before channels: (N, D), so that a row is long). Nothing is ever
divided by a decay, so decays may underflow to zero. Scans by doubling and by parallel chunks were slower here: they
read and write the (L, N, D) tensors more often.

With Y the gradient of y_t = C_t h_t, the gradient of the state runs backwards,

    g_t = C_t Y_t + exp(dt_{t+1} A) g_{t+1},

and every other gradient is a product of g_t with what entered at t. One letter per axis: t time, r rows of the batch,
g groups, n states, p channels of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.kernels.selective_scan.weights import Block, Constant, Selective

BLOCK = 800_000
"""Numbers in one block of states: 3.2 MB, the best of 0.4, 0.8, 1.6 and 3.2 MB on two cores with 2 MB of cache."""


def block_size(channels: int, states: int) -> tuple[int, int]:
    """Rows of the batch and steps of time that one block holds; of the model's shape alone, so that it compiles."""
    token = max(1, channels * states)
    steps = min(max(BLOCK // token, 16), 256)
    return max(1, BLOCK // (steps * token)), steps


def groups_of(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share weights."""
    return max([w.shape[2] for w in (B, C) if w.ndim == 4], default=1)


class Scan:
    """The inputs of one recurrence: step sizes and what enters `(b, L, D)`, the weights, and where documents start."""

    def __init__(self, dt: Tensor, enters: Tensor, A: Tensor, B: Tensor, C: Tensor, resets: Tensor | None):
        self.dt, self.enters, self.resets = dt, enters, resets
        self.batch, self.length, self.channels = dt.shape
        self.states = A.shape[1]
        self.groups = groups_of(B, C)
        self.A = Constant(A, self.groups, dt.dtype)
        self.B, self.C = ((Constant if w.ndim == 2 else Selective)(w, self.groups, dt.dtype) for w in (B, C))
        self.steps = block_size(self.channels, self.states)[1]
        self.times = [slice(t, min(t + self.steps, self.length)) for t in range(0, self.length, self.steps)]

    def rows(self) -> list[slice]:
        """The rows of the batch that one block holds; a short sequence leaves room for more."""
        steps = max(1, min(self.steps, self.length))
        rows = max(1, BLOCK // (steps * max(1, self.channels * self.states)))
        return [slice(r, min(r + rows, self.batch)) for r in range(0, self.batch, rows)]

    def scratch(self, rows: slice, steps: int) -> Tensor:
        """Memory for `steps` states (t, r, g, n, p), reused by every block of these rows."""
        shape = (steps, rows.stop - rows.start, self.groups, self.states, self.channels // self.groups)
        return self.dt.new_empty(shape)

    def tokens(self, x: Tensor, block: Block) -> Tensor:
        """(b, L, D) to this block's (t, r, g, p)."""
        return x[block].unflatten(-1, (self.groups, -1)).transpose(0, 1)

    def inside(self, state: Tensor) -> Tensor:
        """(b, D, N) to (b, g, n, p), in memory of its own."""
        state = state.to(self.dt.dtype).unflatten(1, (self.groups, -1)).transpose(2, 3)
        return state.clone(memory_format=torch.contiguous_format)

    def outside(self, state: Tensor) -> Tensor:
        """(b, g, n, p) to (b, D, N)."""
        return state.transpose(2, 3).flatten(1, 2).contiguous()

    def run(self, block: Block, memory: _Memory) -> None:
        """Fill a block's decays and its states, which follow `memory.before`."""
        dt = self.tokens(self.dt, block)
        n, h = len(dt), memory.before
        decay = torch.mul(dt[..., None, :], self.A.now, out=memory.decay[:n]).exp_()
        if self.resets is not None:
            decay.masked_fill_(self.resets[block].t()[:, :, None, None, None], 0)
        torch.mul(self.tokens(self.enters, block)[..., None, :], self.B.at(block), out=memory.states[:n])
        for a, s in memory.pairs[:n]:
            h = s.addcmul_(a, h)


class _Memory:
    """Decays and states of one block, reused by all of these rows; `before` and the states lie one after the other."""

    def __init__(self, scan: Scan, rows: slice):
        steps = max(1, min(scan.steps, scan.length))
        self.decay, self.history = scan.scratch(rows, steps), scan.scratch(rows, steps + 1)
        self.before, self.states = self.history[0], self.history[1:]
        # Taken apart once: a view costs as much time as the arithmetic of a small step.
        self.pairs = list(zip(self.decay.unbind(0), self.states.unbind(0), strict=True))


def _rows(x: Tensor) -> Tensor:
    """(t, r, g, p) to (r, t, D)."""
    return x.transpose(0, 1).flatten(2)


def read(scan: Scan, state: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y `(b, L, D)`, the last state (b, g, n, p) in `state`'s memory, and those before each block if they are kept."""
    y = torch.empty_like(scan.dt, memory_format=torch.contiguous_format)
    kept = state.new_empty(len(scan.times) if keep else 0, *state.shape)
    for rows in scan.rows():
        memory = _Memory(scan, rows)
        memory.before.copy_(state[rows])
        for i, time in enumerate(scan.times):
            block = (rows, time)
            states = memory.states[: time.stop - time.start]
            if keep:
                kept[i, rows] = memory.before
            scan.run(block, memory)
            memory.before.copy_(states[-1])
            y[block] = _rows(scan.C.read(states, block))
        state[rows] = memory.before
    return y, state, kept


def gradients(scan: Scan, out: Tensor, carry: Tensor, kept: Tensor, again: bool) -> tuple[Tensor, ...]:
    """The gradient's way back, from that of y, `out`, and of the last state, `carry`, whose memory it takes.

    Returns y once more (empty unless `again`), the gradient of what entered, that of dt by the decays alone, those of
    A, B and C, and that of the first state.
    """
    entered, faded = (torch.empty_like(scan.dt, memory_format=torch.contiguous_format) for _ in range(2))
    y = torch.empty_like(entered) if again else entered.new_empty(0)
    for rows in scan.rows():
        memory = _Memory(scan, rows)
        grads = torch.empty_like(memory.decay)
        later = list(zip(grads.unbind(0), memory.decay[1:].unbind(0), grads[1:].unbind(0), strict=False))
        for i, time in reversed(list(enumerate(scan.times))):
            block, n = (rows, time), time.stop - time.start
            decay, g, states = memory.decay[:n], grads[:n], memory.states[:n]
            memory.before.copy_(kept[i, rows])
            scan.run(block, memory)
            if again:
                y[block] = _rows(scan.C.read(states, block))
            now = scan.tokens(out, block)
            scan.C.collect(states, now, block)
            torch.mul(now[..., None, :], scan.C.at(block), out=g)
            g[-1] += carry[rows]
            for this, fades, after in reversed(later[: n - 1]):
                this.addcmul_(fades, after)
            carry[rows] = decay[0] * g[0]
            entered[block] = _rows(scan.B.read(g, block))
            scan.B.collect(g, scan.tokens(scan.enters, block), block)
            rate = decay.mul_(memory.history[:n]).mul_(g)  # gradient of dt * A, the decay's exponent
            scan.A.collect(rate, scan.tokens(scan.dt, block), block)
            faded[block] = _rows(scan.A.read(rate, block))
    return y, entered, faded, *(w.gradient() for w in (scan.A, scan.B, scan.C)), carry
