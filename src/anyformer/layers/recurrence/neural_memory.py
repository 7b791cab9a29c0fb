"""A neural memory that learns chunk by chunk, all from where it started."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.state import State
from anyformer.kernels.exact import exact
from anyformer.layers.normalization.norms import RMSNorm
from anyformer.layers.recurrence.memory import (
    MemoryMixer,
    before_norm,
    decayed_sums,
    gradients,
    normed,
    recall,
    through,
)
from anyformer.layers.recurrence.recurrent import wide

EPS = 1e-5
"""Of the memory's norm."""


class NeuralMemory(MemoryMixer):
    """M(x) = x + (1 + g) LN(mlp(x)); after each chunk of tokens, M is moved by what it was wrong about there.

        S_i = m_i S_{i-1} - grad sum_t lr_t |M_0(k_t) - v_t|^2 / d,   M_i = (1 - a_i) M_{i-1} + S_i

    with step sizes lr of each token, momentum m and decay a of each chunk's mean. A token reads the memory of the
    chunks that are whole with it. Behrouz, Zhong and Mirrokni 2024 (Titans), arXiv:2501.00663, section 3.1, as the
    public titans-pytorch has it: chunks are steps, and gradients are those at the first memory M_0, so that chunks are
    parallel.
    Cost: tokens (3 c^2 + 3 memory) multiply-adds, and a memory kept for each chunk; decoding keeps a chunk's tokens.

    Args:
        dim: channels.
        depth, ratio: layers of the MLP, GELU between them; hidden channels over `dim`.
        chunk: tokens of a chunk.
    """

    name = "neural_memory"
    papers = ("atlas_memory",)
    tiny = {"chunk": 4}

    def __init__(self, dim: int, *, depth: int = 2, ratio: float = 4.0, chunk: int = 64):
        super().__init__()
        if min(depth, chunk) < 1:
            raise OptionError(f"neural_memory takes a depth and a chunk of 1 or more; given {depth} and {chunk}.")
        self.chunk = chunk
        widths = [dim, *[int(ratio * dim)] * (depth - 1), dim]
        self.gain = nn.Parameter(torch.zeros(dim))
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(i, o)) for i, o in pairwise(widths))
        self.retrieve_norm, self.store_norm = RMSNorm(dim), RMSNorm(dim)
        self.q, self.k, self.v = (init.linear(dim, dim, False) for _ in range(3))
        self.step_size, self.momentum, self.decay = (init.linear(dim, 1) for _ in range(3))

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """The memory and its momentum, gain `(b, c)` and weights `(b, inputs, outputs)`; the tokens of the chunk that
        is not whole yet, fewer than `chunk`; and the `place` in it."""
        memory = [t.to(wide(like)).expand(batch, *t.shape) for t in (self.gain, *self.weights)]
        return {
            "memory": memory,
            "momentum": [torch.zeros_like(t) for t in memory],
            "tokens": like.new_zeros(batch, 0, len(self.gain)),
            "place": torch.zeros(batch, dtype=torch.long, device=like.device),
        }

    def read(
        self, x: Float[Tensor, "b n c"], state: State, place: int, resets: Bool[Tensor, "b m"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], dict[str, Any]]:
        tokens = torch.cat([state["tokens"], x], 1)
        whole = tokens.shape[1] // self.chunk * self.chunk
        memories, momentum = self.store(tokens[:, :whole], state, resets)
        queries = self.q(self.retrieve_norm(F.pad(tokens, (0, 0, 1, whole + self.chunk - 1 - tokens.shape[1]))))
        with exact(x):
            y = self.recalled(memories, queries.to(wide(x)).unflatten(1, (-1, self.chunk))).flatten(1, 2)
        y = y[:, 1 + place : 1 + tokens.shape[1]].to(x.dtype)
        after = {
            "memory": [t[:, -1] for t in memories],
            "momentum": momentum,
            "tokens": tokens[:, whole:].clone(),
            "place": (state["place"] + x.shape[1]) % self.chunk,
        }
        return y, after

    def store(
        self, tokens: Float[Tensor, "b m c"], state: State, resets: Bool[Tensor, "b n"] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The memory before the first chunk and after each, `(b, 1 + chunks, ...)`, and the last momentum.

        `resets` are true at chunks before which the memory is the state's again.
        """
        if not tokens.shape[1]:
            return [t[:, None] for t in state["memory"]], state["momentum"]
        x = self.store_norm(tokens).unflatten(1, (-1, self.chunk))
        k, v, rate = self.k(x), self.v(x), self.step_size(x).sigmoid()
        mean = x.mean(2)
        carry, decay = self.momentum(mean)[..., 0], self.decay(mean)[..., 0]
        with exact(x):
            k, v, rate, carry, decay = (t.to(wide(t)) for t in (k, v, rate, carry, decay))
            found = self.surprises(k, v, rate)
            memories, momentum = [], []
            for moved, memory, last in zip(found, state["memory"], state["momentum"], strict=True):
                sums = decayed_sums(-moved, F.logsigmoid(carry), last, resets)
                momentum.append(sums[:, -1])
                after = decayed_sums(sums, F.logsigmoid(-decay), memory, resets)
                if resets is not None:
                    again = F.pad(resets[:, 1:], (0, 1)).view(*resets.shape, *(1,) * (memory.ndim - 1))
                    after = torch.where(again, memory[:, None], after)
                memories.append(torch.cat([memory[:, None], after], 1))
        return memories, momentum

    def surprises(
        self, k: Float[Tensor, "b m t c"], v: Float[Tensor, "b m t c"], rate: Float[Tensor, "b m t 1"]
    ) -> list[Tensor]:
        """Gradients of each chunk's loss at the first memory: of the gain `(b, m, c)` and of each layer."""
        weights = [w.to(k.dtype) for w in self.weights]
        inside = through(weights, k)
        hat, deviation = normed(inside[-1], EPS)
        gain = 1 + self.gain
        error = 2 / k.shape[-1] * rate * (k + gain * hat - v)
        layers = gradients(weights, k, before_norm(error * gain, hat, deviation), inside)
        return [(error * hat).sum(2), *(inputs.mT @ errors for inputs, errors in layers)]

    def recalled(self, memories: list[Tensor], x: Float[Tensor, "b m t c"]) -> Float[Tensor, "b m t c"]:
        """M(x), a memory for each chunk of tokens."""
        gain, *weights = memories
        return x + (1 + gain[:, :, None]) * normed(recall(weights, x), EPS)[0]
