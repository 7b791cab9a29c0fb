"""What recurrent mixers share: tokens and a state in, tokens and a state out, for sequences, documents and steps."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.state import State, check_batch

BLOCK = 1 << 18
"""Numbers in a block of tokens, which a long sequence is cut into."""

SHORTEST = 1024
"""Tokens of a block at least."""


class Recurrent(TokenMixer):
    """A causal mixer that is `mix`: one function from tokens and the state before them to both after them.

    Images and volumes are read in raster order. Documents that share a row do not see each other: each one's state
    starts as a row's does, and padding comes in as zeros. A part implements `init_state` and `mix`.
    """

    causality = "always"
    cost = 1.0
    packing = True
    causal = True

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        """Mix the tokens in raster order; `segments` keep documents apart."""
        return self.run(x, segments, self.init_state(len(x), like=x))

    def run(self, x: Float[Tensor, "b *grid c"], segments: Segments | None, state: State) -> Float[Tensor, "b *grid c"]:
        """`forward` from a state of the part's own; long sequences block by block, so that blocks stay in the cache."""
        resets = None
        if segments is not None:
            x, resets = segments.zero(x), segments.starts()
        tokens = x.flatten(1, -2)
        if state is None:
            return self.mix(tokens, None, resets)[0].reshape(x.shape)

        def mix(now: slice, state: State) -> tuple[Tensor, State]:
            return self.mix(tokens[:, now], state, None if resets is None else resets[:, now])

        return in_blocks(mix, tokens, state).reshape(x.shape)

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Float[Tensor, "b n c"], State]:
        """Continue with the tokens `x` after `state`. Raises `SizeError` for another number of rows."""
        check_batch(state, x.shape[0], self.name)
        return self.mix(x, state, None)

    def mix(
        self, x: Float[Tensor, "b n c"], state: State, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        """Outputs of the tokens `x` after `state`, and the new state; `resets` are true where documents start."""
        raise NotImplementedError


def blocks(tokens: Float[Tensor, "b n c"]) -> list[slice]:
    """The tokens of each block of a long sequence; one block where it is short."""
    block = max(BLOCK // max(len(tokens) * tokens.shape[-1], 1), SHORTEST)
    return [slice(start, start + block) for start in range(0, max(tokens.shape[1], 1), block)]


def in_blocks(
    read: Callable[[slice, State], tuple[Tensor, State]], tokens: Float[Tensor, "b n c"], state: State
) -> Float[Tensor, "b n c"]:
    """What `read` makes of the tokens, block by block; it takes a block's place and the state before it."""
    done = []
    for now in blocks(tokens):
        y, state = read(now, state)
        done.append(y)
    return done[0] if len(done) == 1 else torch.cat(done, 1)


def wide(like: Tensor) -> torch.dtype:
    """The type of states that sum over many tokens: at least float32."""
    return torch.promote_types(like.dtype, torch.float32)


def step_bias(channels: int, least: float, most: float, floor: float = 0.0) -> Float[Tensor, " d"]:
    """The bias `(channels,)` at which softplus(bias) is log-uniform from `least` to `most`, and at least `floor`."""
    low, high = math.log(least), math.log(most)
    dt = torch.exp(torch.rand(channels) * (high - low) + low).clamp(min=floor)
    return dt + torch.log(-torch.expm1(-dt))
