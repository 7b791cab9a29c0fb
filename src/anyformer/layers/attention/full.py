"""Attention among all tokens of a grid, with a key-value cache when causal."""

from __future__ import annotations

from typing import Any, Literal

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
        gate: of each head's output, e.g. Spec("head_gate").
        cache: what a causal one keeps of the tokens before, e.g. Spec("int8_cache").
    """

    name = "attention"
    papers = ("transformer", "vit")
    causality = "option"
    cost = 2.0
    packing = True
    switchable = True
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
        gate: Spec | None = None,
        cache: Spec = Spec("key_value_cache"),
    ):
        super().__init__()
        self.causal = causal
        self.qkv = QKV(dim, heads=heads, kv_heads=kv_heads, head_dim=head_dim, bias=bias, norm=qk_norm)
        self.rotation = build(rotation, "rotation", head_dim=self.qkv.head_dim) if rotation is not None else None
        self.distance = build(distance, "bias", heads=heads, causal=causal) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads, head_dim=self.qkv.head_dim)
        self.gate = build(gate, "gate", dim=dim, heads=heads) if gate is not None else None
        self.cache = build(cache, "cache")
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
        y = self.mixed(q, k, v, bias=bias, mask=mask, causal=self.causal)
        return self.joined(y, tokens).view_as(x)

    def mixed(
        self, q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], **options: Any
    ) -> Float[Tensor, "b h q d"]:
        """What each head makes of the values; options as those of the scoring."""
        return self.scoring(q, k, v, **options)

    def joined(self, y: Float[Tensor, "b h n d"], x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """The output from the heads, each behind its gate, which looks at the tokens `x`."""
        return self.out(merge_heads(y if self.gate is None else y * self.gate(x).to(y.dtype)))

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """An empty cache; see `KeyValueCache`."""
        return self.cache.empty(batch, self.qkv.kv_heads, self.qkv.head_dim, like)

    def extend(
        self, x: Float[Tensor, "b n c"], state: State, bias: Float[Tensor, "b h n m"] | None = None
    ) -> tuple[Tensor, State]:
        """Continue after `state`, which stays good; `bias` is of the pairs of these tokens and all up to them."""
        q, k, v, state = self.recalled(x, state)
        if self.distance is not None:
            apart = self.distance(x.shape[1], k.shape[2], q.device)
            bias = apart if bias is None else bias + apart
        return self.joined(self.mixed(q, k, v, bias=bias, causal=self.causal), x), state

    def recalled(
        self, x: Float[Tensor, "b n c"], state: State
    ) -> tuple[Float[Tensor, "b h n d"], Float[Tensor, "b g m d"], Float[Tensor, "b g m d"], State]:
        """Queries of these tokens, keys and values of all up to them, and the state with what is kept of them."""
        check_batch(state, len(x), self.name)
        q, k, v = self.qkv(x)
        start = int(state["length"][0]) if len(x) else 0
        end = start + x.shape[1]
        if self.rotation is not None:
            q, k = (self.rotation(t, slice(start, end)) for t in (q, k))
        state = self.cache.append(state, k, v, start)
        k, v = (self.cache.recall(state, name, end, like=q) for name in "kv")
        return q, k, v, state
