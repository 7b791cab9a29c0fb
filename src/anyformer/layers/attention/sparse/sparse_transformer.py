"""Attention factorized in two steps: half of the heads see tokens near by, the other half a few of all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.state import State
from anyformer.kernels.sliding_window import (
    block_seen,
    block_window_attention,
    sliding_window_attention,
    window_seen,
)
from anyformer.layers.attention.full import Attention


class TwoStepAttention(Attention):
    """What both patterns share: heads in two halves, and a cache of all tokens.

    Options are `Attention`'s, without `distance`; `stride` is near the square root of the number of tokens, by default
    that of the longest sequence that the part is built for (128 where it is unknown).
    """

    ranks = (1,)
    cost = 1.5
    head_kinds = 2
    pair_bias = False

    def __init__(self, dim: int, *, stride: int | None = None, grid: Sequence[int | None] = (None,), **options: Any):
        super().__init__(dim, **options)
        if self.qkv.heads % 2 or self.qkv.kv_heads % 2:
            raise OptionError(
                f"{self.name} has two kinds of heads, so heads and kv_heads are even; given {self.qkv.heads} and "
                f"{self.qkv.kv_heads}."
            )
        if self.distance is not None:
            raise OptionError(f"{self.name} takes no bias of distances: leave distance out, or take a rotation.")
        self.stride = stride if stride is not None else 128 if grid[0] is None else math.ceil(math.sqrt(grid[0]))
        if self.stride < 1:
            raise OptionError(f"{self.name}.stride is 1 or more; given {stride}.")

    def forward(self, x: Float[Tensor, "b n c"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        q, k, v = self.qkv(x)
        if self.rotation is not None:
            positions = None if segments is None else segments.positions()
            q, k = self.rotation(q, positions), self.rotation(k, positions)
        if self.scoring.record:
            mask = self.seen(q.shape[2], q.device)[None]
            y = self.masked(q, k, v, mask if segments is None else mask & segments.pairs())
        else:
            (q, far_q), (k, far_k), (v, far_v) = (t.chunk(2, 1) for t in (q, k, v))
            y = torch.cat([self.near(q, k, v, segments), self.far(far_q, far_k, far_v, segments)], 1)
        return self.joined(y, x)

    def near(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        """The heads that see tokens near by."""
        raise NotImplementedError

    def far(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        """The heads that see a few of all others."""
        raise NotImplementedError

    def seen(self, tokens: int, device: torch.device) -> Bool[Tensor, "h n n"]:
        """Who sees whom."""
        near, far = self.patterns(tokens, device)
        half = self.qkv.heads // 2
        return torch.cat([near.expand(half, -1, -1), far.expand(half, -1, -1)])

    def patterns(self, tokens: int, device: torch.device) -> tuple[Bool[Tensor, "n n"], Bool[Tensor, "n n"]]:
        """Who sees whom in each half of the heads."""
        raise NotImplementedError

    def masked(self, q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "b h q k"]) -> Float[Tensor, "b h q d"]:
        """Attention with a mask of whose rows some may be empty: these give zeros."""
        some = mask.any(-1, keepdim=True)
        return self.mixed(q, k, v, mask=mask | ~some) * some

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        """Continue after `state`, which stays good."""
        q, k, v, state = self.recalled(x, state)
        seen = self.seen(k.shape[2], x.device)[None, :, k.shape[2] - x.shape[1] :]
        return self.joined(self.masked(q, k, v, seen), x), state


class StridedAttention(TwoStepAttention):
    """Half of the heads see the last `stride` tokens, the other half every `stride`-th token.

    Child et al. 2019 (Sparse Transformer), arXiv:1904.10509, section 4.2, strided; for data whose structure has that
    period. Any token reaches any other in two layers. Without `causal`, the same in both directions. Cost: tokens
    (stride + tokens / stride) c + 4 tokens c^2 multiply-adds, of order tokens^1.5.

    Args:
        dim: channels.
        stride: as above.
        options: as `Attention`'s, without `distance`.
        grid: the longest sequence.

    Raises:
        OptionError: an odd number of heads, a stride below 1, a bias of distances.
    """

    name = "sparse_strided"
    papers = ("lra",)
    tiny = {"heads": 2}

    def __init__(self, dim: int, *, stride: int | None = None, grid: Sequence[int | None] = (None,), **options: Any):
        super().__init__(dim, stride=stride, grid=grid, **options)

    def near(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        ids = None if segments is None else segments.ids
        after = 0 if self.causal else self.stride
        return sliding_window_attention(q, k, v, before=self.stride, after=after, ids=ids, score=self.mixed)

    def far(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        ids, n = None if segments is None else segments.ids, q.shape[2]
        after, apart = 0 if self.causal else n, min(self.stride, n)
        return sliding_window_attention(q, k, v, before=n, after=after, dilation=apart, ids=ids, score=self.mixed)

    def patterns(self, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        after = 0 if self.causal else tokens
        near = window_seen(tokens, tokens, before=self.stride, after=min(after, self.stride), device=device)
        return near, window_seen(tokens, tokens, before=tokens, after=after, dilation=self.stride, device=device)


class FixedAttention(TwoStepAttention):
    """Half of the heads see the tokens of their block, the other half the last `summary` tokens of every block.

    Child et al. 2019 (Sparse Transformer), arXiv:1904.10509, section 4.2, fixed; for text. Heads of the second kind
    see nothing before the first such token, and give zeros there. Without `causal`, the same in both directions. Cost:
    tokens (stride + summary tokens / stride) c + 4 tokens c^2 multiply-adds, of order tokens^1.5.

    Args:
        dim: channels.
        stride: tokens of a block.
        summary: tokens at the end of each block that later ones see.
        options: as `Attention`'s, without `distance`.
        grid: the longest sequence.

    Raises:
        OptionError: an odd number of heads, a stride below 1, a summary longer than a block, a bias of distances.
    """

    name = "sparse_fixed"
    papers = ("lra",)
    packing = False  # documents do not see each other, but blocks are those of the row
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        stride: int | None = None,
        summary: int = 1,
        grid: Sequence[int | None] = (None,),
        **options: Any,
    ):
        super().__init__(dim, stride=stride, grid=grid, **options)
        if not 1 <= summary <= self.stride:
            raise OptionError(f"{self.name}.summary lies between 1 and the stride, {self.stride}; given {summary}.")
        self.summary = summary

    def near(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        ids = None if segments is None else segments.ids
        return block_window_attention(
            q, k, v, block=self.stride, before=0, causal=self.causal, ids=ids, score=self.mixed
        )

    def far(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        places = torch.arange(q.shape[2], device=q.device)
        kept = torch.cat([places[self.stride - i :: self.stride] for i in range(self.summary, 0, -1)])
        if not len(kept):
            return torch.zeros_like(q)
        mask = (places[:, None] >= kept) if self.causal else torch.ones(len(places), len(kept), device=q.device).bool()
        mask = mask[None, None] if segments is None else mask & segments.pairs(Segments(segments.ids[:, kept]))
        return self.masked(q, k[:, :, kept], v[:, :, kept], mask)

    def patterns(self, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        near = block_seen(tokens, block=self.stride, before=0, after=0, causal=self.causal, device=device)
        places = torch.arange(tokens, device=device)
        far = (places % self.stride >= self.stride - self.summary).expand(tokens, -1)
        return near, far & (places[:, None] >= places) if self.causal else far
