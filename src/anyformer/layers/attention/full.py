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
    pair_bias = True
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

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        bias: Float[Tensor, "b h n n"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        q, k, v = self.qkv(tokens)
        if self.rotation is not None:
            positions = None if segments is None else segments.positions()
            q, k = self.rotation(q, positions), self.rotation(k, positions)
        if self.distance is not None:
            apart = self.distance(q.shape[2], k.shape[2], q.device)
            bias = apart if bias is None else bias + apart
        mask = segments.pairs() if segments is not None else None
        y = self.scoring(q, k, v, bias=bias, mask=mask, causal=self.causal)
        return self.out(merge_heads(y)).view_as(x)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """An empty key-value cache: keys and values `(b, g, room, d)`, and how many tokens this state holds of them.

        `filled` belongs to the room: it counts the tokens written there by any state that shares it.
        """
        empty = like.new_empty(batch, self.qkv.kv_heads, 0, self.qkv.head_dim)
        none = torch.zeros(batch, dtype=torch.long, device=like.device)
        return {"k": empty, "v": empty.clone(), "length": none, "filled": none.clone()}

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        """Continue after `state`, which stays good: another continuation of it gets a room of its own."""
        check_batch(state, len(x), self.name)
        q, k, v = self.qkv(x)
        start = int(state["length"][0]) if len(x) else 0
        end = start + x.shape[1]
        if self.rotation is not None:
            positions = torch.arange(start, end, device=x.device)[None]
            q, k = self.rotation(q, positions), self.rotation(k, positions)
        state = _appended(state, k, v, start)
        bias = self.distance(x.shape[1], end, q.device) if self.distance is not None else None
        y = self.scoring(q, state["k"][:, :, :end], state["v"][:, :, :end], bias=bias, causal=self.causal)
        return self.out(merge_heads(y)), state


def _appended(state: State, k: Tensor, v: Tensor, start: int) -> State:
    """The cache with the keys and values of the tokens from `start` on."""
    end = start + k.shape[2]
    length = state["length"] + k.shape[2]
    if torch.is_grad_enabled() and k.requires_grad:  # what backward needs is never written over
        k, v = (torch.cat([state[n][:, :, :start], new], 2) for n, new in (("k", k), ("v", v)))
        return {"k": k, "v": v, "length": length, "filled": length.clone()}
    keys, values, filled = state["k"], state["v"], state["filled"]
    room = keys.shape[2]
    if room < end or (len(k) and int(filled[0]) != start):
        room = room if room >= end else max(end, 2 * room, 64)  # doubling: growing costs O(1) a token
        keys, values = (_moved(old[:, :, :start], room) for old in (keys, values))
        filled = torch.empty_like(filled)
    keys[:, :, start:end] = k
    values[:, :, start:end] = v
    filled.fill_(end)
    return {"k": keys, "v": values, "length": length, "filled": filled}


def _moved(held: Tensor, room: int) -> Tensor:
    """The same tokens in a new cache with room for `room`."""
    larger = held.new_zeros(*held.shape[:2], room, held.shape[3])
    larger[:, :, : held.shape[2]] = held
    return larger
