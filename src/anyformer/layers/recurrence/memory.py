"""Memories that are trained while a sequence is read: what is recalled from their weights, and how wrong it is.

A memory is a matrix or an MLP, its weights given as a list of tensors `(..., inputs, outputs)`; states hold them, one
set for each row and head. Gradients are written out, so that they can be taken for every token by itself, compiled, and
differentiated again.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.state import State, check_batch
from anyformer.layers.recurrence.recurrent import in_blocks

SPAN = 32
"""Steps of a decaying sum that are one product of matrices."""


class MemoryMixer(TokenMixer):
    """A causal mixer whose state is trained as it reads, in chunks of tokens that share where gradients are taken.

    Images and volumes are read in raster order. Documents that share a row are read each from its own first chunk on,
    by a memory as it is before any token; padding is not read, and comes out as zeros. A part implements `init_state`,
    with `place` `(b,)`, and `read`.

    Attributes:
        chunk: tokens of a chunk.
    """

    causality = "always"
    causal = True
    cost = 1.0
    packing = True
    chunk: int

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        """Read the tokens in raster order; `segments` keep documents apart."""
        tokens, state = x.flatten(1, -2), self.init_state(len(x), like=x)
        if segments is None:

            def read(now: slice, state: State) -> tuple[Tensor, State]:
                return self.read(tokens[:, now], state, now.start % self.chunk)

            return in_blocks(read, tokens, state).reshape(x.shape)
        places, resets = chunked(segments, self.chunk)
        chunks = tokens.new_zeros(len(x), resets.shape[1] * self.chunk + 1, x.shape[-1])
        places = places[..., None].expand_as(tokens)
        y, _ = self.read(chunks.scatter(1, places, tokens)[:, :-1], state, 0, resets)
        return F.pad(y, (0, 0, 0, 1)).gather(1, places).reshape(x.shape)

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Float[Tensor, "b n c"], State]:
        """Continue with the tokens `x` after `state`. Raises `SizeError` for another number of rows."""
        check_batch(state, len(x), self.name)
        return self.read(x, state, int(state["place"][0]) if len(x) else 0)

    def read(
        self, x: Float[Tensor, "b n c"], state: State, place: int, resets: Bool[Tensor, "b m"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], dict[str, Tensor | list[Tensor]]]:
        """Outputs of the tokens `x` after `state`, `place` tokens into a chunk, and the new state.

        `resets` are true at chunks with which a document starts; it is read after `state` again.
        """
        raise NotImplementedError


def chunked(segments: Segments, chunk: int) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b m"]]:
    """Where tokens go, so that documents start with a chunk of their own, and which of the m chunks start one.

    A chunk is never full with the last token of a document, so what is known behind it has a place. Padding
    goes behind the last chunk. m is what the fullest row needs; a device is waited for to know it.
    """
    valid, inside, starts = segments.flat().valid, segments.positions(), segments.starts()
    fills = (valid & ((inside + 1) % chunk == 0)).long()
    at = starts.cumsum(1) - 1 + fills.cumsum(1) - fills
    count = int(at.max()) + 1 if at.numel() else 0
    at = at.masked_fill(~valid, count)
    resets = starts.new_zeros(len(at), count + 1).scatter(1, at.masked_fill(~starts, count), True)[:, :count]
    return torch.where(valid, at * chunk + inside % chunk, count * chunk), resets


def recall(weights: list[Tensor], x: Float[Tensor, "*b n i"]) -> Float[Tensor, "*b n o"]:
    """What the memory makes of `x`: a linear layer for each of `weights`, a GELU before all but the first."""
    for i, weight in enumerate(weights):
        x = (F.gelu(x) if i else x) @ weight
    return x


def gradients(
    weights: list[Tensor], x: Float[Tensor, "*b n i"], error: Float[Tensor, "*b n o"], inside: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """For each layer, tensors `(..., n, inputs)` and `(..., n, outputs)` whose outer products are tokens' gradients.

    Args:
        weights: of the memory.
        x: its inputs.
        error: gradient of the loss with respect to what it recalls.
        inside: what enters each layer but the first, before the GELU.
    """
    found = []
    for i in reversed(range(len(weights))):
        found.append((F.gelu(inside[i - 1]) if i else x, error))
        if i:
            error = (error @ weights[i].mT) * gelu_slope(inside[i - 1])
    return found[::-1]


def surprise(
    weights: list[Tensor], x: Float[Tensor, "*b n i"], v: Float[Tensor, "*b n o"]
) -> list[tuple[Tensor, Tensor]]:
    """`gradients` of |recall(x) - v|^2 / 2 for each token."""
    inside = through(weights, x)
    return gradients(weights, x, inside[-1] - v, inside)


def through(weights: list[Tensor], x: Float[Tensor, "*b n i"]) -> list[Tensor]:
    """What leaves each layer, before the GELU."""
    out = []
    for i, weight in enumerate(weights):
        x = (F.gelu(x) if i else x) @ weight
        out.append(x)
    return out


def gelu_slope(x: Tensor) -> Tensor:
    """The derivative of the exact GELU."""
    return 0.5 * (1 + torch.erf(x * 0.5**0.5)) + x * torch.exp(-0.5 * x.square()) * (2 * math.pi) ** -0.5


def decayed_sums(
    x: Float[Tensor, "b n *k"],
    log_decay: Float[Tensor, "b n"],
    start: Float[Tensor, "b *k"],
    resets: Bool[Tensor, "b n"] | None = None,
) -> Tensor:
    """s_t = exp(log_decay_t) s_{t-1} + x_t, where s_{t-1} is `start` at first and at `resets`.

    `SPAN` steps at once. Cost: n SPAN multiply-adds a number.
    """
    sums, before = [], start
    for first in range(0, max(x.shape[1], 1), SPAN):
        now = slice(first, first + SPAN)
        reset = None if resets is None else resets[:, now]
        sums.append(_span(x[:, now], log_decay[:, now], before, start, reset))
        before = sums[-1][:, -1] if sums[-1].shape[1] else before
    return torch.cat(sums, 1)


def _span(x: Tensor, log_decay: Tensor, before: Tensor, start: Tensor, resets: Tensor | None) -> Tensor:
    """`decayed_sums` after `before`."""
    passed = log_decay.cumsum(1)
    apart = passed[:, :, None] - passed[:, None, :]
    sees = torch.ones(apart.shape[-2:], dtype=torch.bool, device=x.device).tril()
    extra = (1,) * (x.ndim - 2)
    left = before[:, None]
    if resets is not None:
        runs = resets.cumsum(1)
        sees = sees & (runs[:, :, None] == runs[:, None, :])
        left = torch.where((runs == 0).view(*runs.shape, *extra), left, start[:, None])
        passed = passed - torch.where(resets, passed - log_decay, 0).cummin(1).values
    inside = (apart.masked_fill(~sees, -torch.inf).exp() @ x.flatten(2)).view_as(x)
    return inside + passed.exp().view(*passed.shape, *extra) * left


def normed(x: Float[Tensor, "*b d"], eps: float) -> tuple[Float[Tensor, "*b d"], Float[Tensor, "*b 1"]]:
    """x with mean 0 and variance 1 over its channels, and its deviation before."""
    x = x - x.mean(-1, keepdim=True)
    deviation = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x / deviation, deviation


def before_norm(grad: Float[Tensor, "*b d"], hat: Float[Tensor, "*b d"], deviation: Tensor) -> Float[Tensor, "*b d"]:
    """The gradient with respect to what `normed` got, from that of what it gave."""
    return (grad - grad.mean(-1, keepdim=True) - hat * (grad * hat).mean(-1, keepdim=True)) / deviation
