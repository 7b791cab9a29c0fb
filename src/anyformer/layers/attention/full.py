"""Attention among all tokens of a grid, with a key-value cache when causal."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State, check_batch
from anyformer.layers.attention.projection import QKV, merge_heads


class Attention(TokenMixer):
    """Multi-head attention of every token to every token (with `causal`: to itself and the earlier ones).

    y = concat_h softmax(q_h k_h^T / sqrt(d)) v_h W_o. Vaswani et al. 2017, arXiv:1706.03762, section 3.2; with
    `kv_heads` below `heads`, grouped queries (arXiv:2305.13245). Cost: 2 tokens^2 c + 4 tokens c^2 multiply-adds.

    Args:
        dim: channels.
        heads, kv_heads, head_dim: heads of queries; of keys and values (None: as many); channels of a head
            (None: dim / heads).
        causal: see earlier tokens only.
        bias, out_bias: biases of the projections in ("qv": none for keys) and out.
        qk_norm: norm of queries and keys, e.g. Spec("rmsnorm").
        rotation: positions by rotating queries and keys, e.g. Spec("rotary").
        distance: positions as a bias of the scores, e.g. Spec("alibi").
        scoring: from scores to outputs, e.g. Spec("softmax").
    """

    name = "attention"
    papers = ("transformer", "vit")
    causality = "option"
    cost = 2.0
    packing = True
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool | Literal["qv"] = True,
        out_bias: bool = True,
        qk_norm: Spec | None = None,
        rotation: Spec | None = None,
        distance: Spec | None = None,
        scoring: Spec = Spec("softmax"),
    ):
        super().__init__()
        self.causal = causal
        self.qkv = QKV(dim, heads=heads, kv_heads=kv_heads, head_dim=head_dim, bias=bias, norm=qk_norm)
        self.rotation = build(rotation, "rotation", head_dim=self.qkv.head_dim) if rotation is not None else None
        self.distance = build(distance, "bias", heads=heads) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(self.qkv.widths[0], dim, bias=out_bias)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        q, k, v = self.qkv(tokens)
        if self.rotation is not None:
            positions = None if segments is None else segments.positions()
            q, k = self.rotation(q, positions), self.rotation(k, positions)
        bias = self.distance(q.shape[2], k.shape[2], q.device) if self.distance is not None else None
        mask = segments.pairs() if segments is not None else None
        y = self.scoring(q, k, v, bias=bias, mask=mask, causal=self.causal)
        return self.out(merge_heads(y)).view_as(x)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """An empty key-value cache: keys and values `(b, g, capacity, d)`, and how many tokens each row holds."""
        empty = like.new_empty(batch, self.qkv.kv_heads, 0, self.qkv.head_dim)
        return {"k": empty, "v": empty.clone(), "length": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        check_batch(state, len(x), self.name)
        q, k, v = self.qkv(x)
        start = int(state["length"][0]) if len(x) else 0
        end = start + x.shape[1]
        if self.rotation is not None:
            positions = torch.arange(start, end, device=x.device)[None]
            q, k = self.rotation(q, positions), self.rotation(k, positions)
        keys, values = (_grown(state[n], end) for n in ("k", "v"))
        keys[:, :, start:end] = k
        values[:, :, start:end] = v
        bias = self.distance(x.shape[1], end, q.device) if self.distance is not None else None
        y = self.scoring(q, keys[:, :, :end], values[:, :, :end], bias=bias, causal=self.causal)
        return self.out(merge_heads(y)), {"k": keys, "v": values, "length": state["length"] + x.shape[1]}


def _grown(cache: Tensor, needed: int) -> Tensor:
    """The cache with room for `needed` tokens; room doubles, so that growing costs O(1) a token."""
    room = cache.shape[2]
    if room >= needed:
        return cache
    larger = cache.new_zeros(*cache.shape[:2], max(needed, 2 * room, 64), cache.shape[3])
    larger[:, :, :room] = cache
    return larger
