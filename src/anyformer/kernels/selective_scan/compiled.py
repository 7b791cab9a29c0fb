"""The recurrence of the selective scan compiled by numba: one pass over the tokens, whose states stay in the cache.

The same `read` and `gradients` as `blocked`, for float32 on a CPU, weights that tokens choose, A of at most 0 and dt of
at least 0. Nothing of size (L, N, D) is written: a tile of channels goes through all tokens with its states in the
first cache, and tiles are spread over threads. For the gradient a tile computes the states of one block of steps again,
and goes back through them. Decays are at least 2^-126, the least normal float. Compiling takes ten seconds, once on a
machine; afterwards a process takes one to load what was compiled.

One letter per axis as in `blocked`; a piece of work is (row, group, tile, first channel, behind the last).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

if TYPE_CHECKING:
    from anyformer.kernels.selective_scan.blocked import Scan

TILE = 256
"""Channels of a piece: their states and decay rates of 16 each fill two thirds of a first cache of 48 KB."""

LEAST = np.float32(-126.0)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
LOG2 = math.log(2)
# 2^r on [-1/2, 1/2] to 2e-7: the series of exp(r log 2), from the sixth power down to the first.
P6, P5, P4, P3, P2, P1 = (np.float32(LOG2**i / math.factorial(i)) for i in range(6, 0, -1))
BIAS, SHIFT = np.int32(127), np.int32(23)


def _compile(*freedom: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile at the first call, to run without the lock of Python; kept on disk where there is a place."""

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        flags: dict[str, Any] = {"nogil": True, "fastmath": {"contract", *freedom}}
        try:
            return njit(cache=True, **flags)(function)
        except RuntimeError:  # neither the package's folder nor the user's can be written
            return njit(**flags)(function)

    return made


@_compile()
def _power(x):
    """2^x of an x of at most 0; NaN stays NaN."""
    x = LEAST if x < LEAST else x
    whole = np.int32(x - HALF)  # cutting off rounds to the nearest, for x is at most 0
    r = x - np.float32(whole)
    scale = np.int32((whole + BIAS) << SHIFT).view(np.float32)
    return scale * ((((((P6 * r + P5) * r + P4) * r + P3) * r + P2) * r + P1) * r + ONE)


@_compile()
def _read(pieces, steps, resets, rates, dt, enters, B, C, states, kept, y):
    """Fill y (r, t, D) and `kept`; `states` (r, g, n, p) are those before the first token, and then the last."""
    width, length = states.shape[3], dt.shape[1]
    for i in range(len(pieces)):
        row, group, _, first, last = pieces[i]
        lo, hi = group * width + first, group * width + last
        for t in range(length):
            if len(kept) > 0 and t % steps == 0:
                kept[t // steps, row, group, :, first:last] = states[row, group, :, first:last]
            if len(resets) > 0 and resets[row, t]:
                states[row, group, :, first:last] = 0
            step, e, out = dt[row, t, lo:hi], enters[row, t, lo:hi], y[row, t, lo:hi]
            out[:] = 0
            for n in range(states.shape[2]):
                h, b, c = states[row, group, n, first:last], B[row, t, group, n], C[row, t, group, n]
                rate = rates[group, n, first:last]
                for p in range(last - first):
                    h[p] = _power(step[p] * rate[p]) * h[p] + b * e[p]
                    out[p] += c * h[p]


def read(scan: Scan, state: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `blocked.read`."""
    y = torch.empty_like(scan.dt, memory_format=torch.contiguous_format)
    kept = state.new_empty(len(scan.times) if keep else 0, *state.shape)
    _spread(_read, scan, _arrays(scan, scan.dt, scan.enters, scan.B.whole(), scan.C.whole(), state, kept, y))
    return y, state, kept


@_compile("reassoc", "nsz")
def _gradients(
    pieces, steps, resets, rates, dt, enters, B, C, kept, out, carry, y, entered, faded, grad_A, grad_B, grad_C
):
    """Fill y, `entered`, `faded` (r, t, D), grad_A (r, g, n, p), and the parts of grad_B and grad_C (tile, r, t, g, n).

    `carry` is the gradient of the last states, and then that of the first.
    """
    width, length, many = carry.shape[3], dt.shape[1], carry.shape[2]
    for i in range(len(pieces)):
        row, group, tile, first, last = pieces[i]
        lo, hi, size = group * width + first, group * width + last, last - first
        decay, history = np.empty((steps, many, size), np.float32), np.empty((steps + 1, many, size), np.float32)
        for block in range(len(kept) - 1, -1, -1):
            start, stop = block * steps, min(block * steps + steps, length)
            history[0] = kept[block, row, group, :, first:last]
            for t in range(start, stop):
                starts = len(resets) > 0 and resets[row, t]
                step, e, read = dt[row, t, lo:hi], enters[row, t, lo:hi], y[row, t, lo:hi]
                read[:] = 0
                for n in range(many):
                    before, now, left = history[t - start, n], history[t - start + 1, n], decay[t - start, n]
                    b, c = B[row, t, group, n], C[row, t, group, n]
                    rate = rates[group, n, first:last]
                    for p in range(size):
                        left[p] = np.float32(0) if starts else _power(step[p] * rate[p])
                        now[p] = left[p] * before[p] + b * e[p]
                        read[p] += c * now[p]
            for t in range(stop - 1, start - 1, -1):
                step, e, grad = dt[row, t, lo:hi], enters[row, t, lo:hi], out[row, t, lo:hi]
                came, fades = entered[row, t, lo:hi], faded[row, t, lo:hi]
                came[:] = 0
                fades[:] = 0
                for n in range(many):
                    before, now, left = history[t - start, n], history[t - start + 1, n], decay[t - start, n]
                    b, c, of_b, of_c = B[row, t, group, n], C[row, t, group, n], np.float32(0), np.float32(0)
                    back, rate = carry[row, group, n, first:last], rates[group, n, first:last]
                    total = grad_A[row, group, n, first:last]
                    for p in range(size):
                        g = c * grad[p] + back[p]
                        of_c += now[p] * grad[p]
                        of_b += g * e[p]
                        came[p] += g * b
                        g = g * left[p]
                        back[p] = g
                        exponent = g * before[p]
                        total[p] += exponent * step[p]
                        fades[p] += exponent * rate[p]
                    grad_B[tile, row, t, group, n] = of_b
                    grad_C[tile, row, t, group, n] = of_c


def gradients(scan: Scan, out: Tensor, carry: Tensor, kept: Tensor, again: bool) -> tuple[Tensor, ...]:
    """As `blocked.gradients`; y is always read once more."""
    y, entered, faded = (torch.empty_like(out) for _ in range(3))
    B, C = scan.B.whole(), scan.C.whole()
    parts = B.new_empty(2, -(-carry.shape[3] // TILE), *B.shape)
    grad_A = torch.zeros_like(carry)
    inputs = (scan.dt, scan.enters, B, C, kept, out, carry, y, entered, faded, grad_A, parts[0], parts[1])
    _spread(_gradients, scan, _arrays(scan, *inputs))
    faded.mul_(LOG2)
    grad_B, grad_C = (w.narrow(part.sum(0)) for w, part in ((scan.B, parts[0]), (scan.C, parts[1])))
    scan.A.found += grad_A.sum(0)
    return y, entered, faded, scan.A.gradient(), grad_B, grad_C, carry


def _arrays(scan: Scan, *tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Where documents start, rates to base 2, and the tensors, as the compiled functions take them."""
    resets = torch.zeros(0, 0, dtype=torch.bool) if scan.resets is None else scan.resets
    return tuple(t.detach().contiguous().numpy() for t in (resets, scan.A.now / LOG2, *tensors))


def _spread(work: Callable[..., None], scan: Scan, arrays: tuple[np.ndarray, ...]) -> None:
    """Run pieces of channels on as many threads as torch uses."""
    width = scan.channels // scan.groups
    pieces = [
        np.array([(row, group, tile, first, min(first + TILE, width))])
        for row in range(scan.batch)
        for group in range(scan.groups)
        for tile, first in enumerate(range(0, width, TILE))
    ]
    threads = max(1, min(torch.get_num_threads(), len(pieces)))
    # Neighbouring tiles stay on one thread, for they share pages; a thread that is through helps another from its end:
    # often one has its core for itself, and one shares it with a thread of torch's that waits awake.
    shares = [deque(pieces[i * len(pieces) // threads : (i + 1) * len(pieces) // threads]) for i in range(threads)]

    def share(own: deque[np.ndarray]) -> None:
        while True:
            taken = own or max(shares, key=len)
            try:
                piece = taken.popleft() if taken is own else taken.pop()
            except IndexError:  # nothing is left
                return
            work(piece, scan.steps, *arrays)

    with ThreadPoolExecutor(threads) as pool:
        others = [pool.submit(share, own) for own in shares[1:]]
        share(shares[0])
        for other in others:
            other.result()
