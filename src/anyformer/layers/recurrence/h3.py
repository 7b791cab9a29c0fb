"""H3: a state space that shifts keys and one that remembers them, with products in between as in attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.state import State
from anyformer.kernels.causal_conv import causal_conv
from anyformer.kernels.diagonal_recurrence import diagonal_filter
from anyformer.kernels.long_convolution import TOGETHER
from anyformer.layers.recurrence.recurrent import wide
from anyformer.layers.recurrence.state_space import StateSpace, unpair


class H3(StateSpace):
    """W (q * SSM_diag(SSM_shift(k) v^T)): a shift finds what came just before, a diagonal state space what was kept.

    Fu et al. 2022, arXiv:2212.14052, section 3.1 and algorithm 1. The shift SSM is a causal filter as long as its
    state, sum_n B_n C_{n+l}; the diagonal one is discretized bilinearly, of each head, for every product of a key and a
    value channel. Both have skips. Cost: tokens c (4 c + state + head_dim (head_dim state + log2(tokens)))
    multiply-adds; the state for decoding does not grow.

    Args:
        dim: channels.
        head_dim: channels of a head.
        state: N, taps of the shift and real numbers of state of the diagonal SSM, an even number.
        dt_min, dt_max: dt starts log-uniform between them.

    Raises:
        OptionError: channels that heads do not divide; an odd state.
    """

    name = "h3"
    papers = ("survey_after_transformers",)
    tiny = {"head_dim": 2, "state": 4}

    def __init__(self, dim: int, *, head_dim: int = 8, state: int = 64, dt_min: float = 0.001, dt_max: float = 0.1):
        super().__init__()
        if head_dim < 1 or dim % head_dim:
            raise OptionError(f"h3: heads of {head_dim} channels do not divide {dim}.")
        if state < 2 or state % 2 or not 0 < dt_min <= dt_max:
            raise OptionError(
                f"h3.state is an even number of 2 or more, and 0 < dt_min <= dt_max; given {state}, {dt_min}, {dt_max}."
            )
        self.head_dim, heads, pairs = head_dim, dim // head_dim, state // 2
        low, high = math.log(dt_min), math.log(dt_max)
        self.q, self.k, self.v = (init.linear(dim, dim) for _ in range(3))
        first = torch.zeros(dim, state)
        first[:, 0] = 1
        self.shift_B, self.shift_C = nn.Parameter(first), nn.Parameter(torch.randn(dim, state))
        self.shift_D, self.D = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.randn(heads))
        self.log_dt = nn.Parameter(torch.rand(heads) * (high - low) + low)
        self.log_A_real = nn.Parameter(torch.full((heads, pairs), 0.5).log())
        self.A_imag = nn.Parameter(math.pi * torch.arange(pairs, dtype=torch.float32).repeat(heads, 1))
        ones = torch.stack([torch.ones(heads, pairs), torch.zeros(heads, pairs)], -1)
        self.B, self.C = nn.Parameter(ones), nn.Parameter(torch.randn(heads, pairs, 2) * 0.5**0.5)
        self.out = init.linear(dim, dim)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """Zeros: `keys` `(b, state - 1, c)`, `scan` `(b, head_dim, head_dim, heads, state / 2, 2)`."""
        d, taps = self.head_dim, self.shift_B.shape[1]
        scan = like.new_zeros(batch, d, d, *self.A_imag.shape, 2, dtype=wide(like))
        return {"keys": like.new_zeros(batch, taps - 1, self.q.in_features), "scan": scan}

    def shift_filter(self) -> Float[Tensor, "c taps"]:
        """sum_n B_n C_{n+l} of every channel, for lags l below the state's size."""
        size = 2 * self.shift_B.shape[1]
        correlation = torch.fft.rfft(self.shift_B, n=size).conj() * torch.fft.rfft(self.shift_C, n=size)
        return torch.fft.irfft(correlation, n=size)[:, : size // 2]

    def filter(self) -> tuple[Tensor, Tensor]:
        """Log decays and weights of the diagonal states, complex `(heads, state / 2)`."""
        dt = self.log_dt.exp()[:, None]
        half = dt * torch.complex(-self.log_A_real.exp(), self.A_imag) / 2
        B, C = torch.view_as_complex(self.B), torch.view_as_complex(self.C)
        return ((1 + half) / (1 - half)).log(), 2 * B * C * dt / (1 - half)

    def mix(
        self, x: Float[Tensor, "b n c"], state: State | None, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State | None]:
        b, d = len(x), self.head_dim
        q, k, v = (part(x) for part in (self.q, self.k, self.v))
        keys = None if state is None else state["keys"]
        shifted, keys = causal_conv(k, self.shift_filter().flip(1), resets=resets, state=keys)
        k = shifted + self.shift_D * k
        # (b, d, heads, n): as filters go along the tokens, these come last in memory
        q, k, v = (t.mT.unflatten(1, (-1, d)).transpose(1, 2).contiguous() for t in (q, k, v))
        log_a, weight = self.filter()
        before = None if state is None else unpair(state["scan"])
        some = max(min(TOGETHER // max(v.numel(), 1), d), 1)
        y, ends = torch.zeros_like(v), []
        for i in range(0, d, some):
            now = slice(i, i + some)
            # (b, some, d, heads, n): products of some key channels of each head with its value channels
            kv = k[:, now, None] * v[:, None]
            start = None if before is None else before[:, now].flatten(0, 2)
            many = None if resets is None else resets.repeat_interleave(kv.shape[1] * d, 0)
            found, end = diagonal_filter(kv.flatten(0, 2).mT, log_a, weight, resets=many, state=start)
            y = y + (q[:, now, None] * (found.mT.reshape(kv.shape) + self.D[:, None] * kv)).sum(1)
            ends.append(None if end is None else torch.view_as_real(end).unflatten(0, (b, -1, d)))
        y = self.out(y.flatten(1, 2).mT)  # the heads of a channel beside each other, as the authors leave them
        return y, None if state is None else {"keys": keys, "scan": torch.cat(ends, 1)}
