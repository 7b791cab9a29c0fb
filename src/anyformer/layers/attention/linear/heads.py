"""Heads of linear attention as a recurrence: what RetNet, GLA, HGRN2, DeltaNet and Gated DeltaNet share."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.kernels.linear_recurrence import linear_recurrence
from anyformer.layers.convolution.short_conv import ShortConv
from anyformer.layers.recurrence.recurrent import Recurrent, wide


class RecurrentHeads(Recurrent):
    """y = W_o (act(W_g x) * norm(q S)), S a matrix of key by value channels that each head writes into.

    q, k and v come from one linear layer, after a short convolution where `conv` is above 0. Where there are fewer
    heads of one of them, neighbouring heads share it. A part says in `read` how S is written and read. Cost: tokens
    times the linear layers and twice the size of S; the state does not grow.

    Args:
        dim: channels.
        heads: of queries, of keys and of values; each divides the largest.
        key_dim, value_dim: channels of a head's queries and keys, and of its values.
        conv: taps of the convolution of q, k and v, silu behind it; 0 for none.
        norm: of what is read; None for none.
        norm_of: what the norm looks at, the channels of a head or all of a token.
        gate: activation of the gate; None for no gate.
        bias: of the linear layers.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: tuple[int, int, int],
        key_dim: int,
        value_dim: int,
        conv: int = 0,
        norm: Spec | None = None,
        norm_of: Literal["head", "token"] = "head",
        gate: Spec | None = None,
        bias: bool = False,
    ):
        super().__init__()
        self.heads = max(heads)
        for given in heads:
            if given < 1 or self.heads % given:
                raise OptionError(
                    f"{self.name}: heads of queries, keys and values divide the largest number of them; given {heads}."
                )
        if min(key_dim, value_dim) < 1 or conv < 0:
            raise OptionError(
                f"{self.name} takes key and value channels of at least 1 and 0 or more taps of its convolution; "
                f"given {key_dim}, {value_dim} and conv={conv}."
            )
        self.key_dim, self.value_dim, self.norm_of = key_dim, value_dim, norm_of
        self.widths = (heads[0] * key_dim, heads[1] * key_dim, heads[2] * value_dim)
        inner = self.heads * value_dim
        self.qkv = init.linear(dim, sum(self.widths), bias)
        self.conv = ShortConv(sum(self.widths), taps=conv) if conv else None
        self.norm = None
        if norm is not None:
            self.norm = build(norm, "norm", dim=value_dim if norm_of == "head" else inner)
        self.gate = init.linear(dim, inner, bias) if gate is not None else None
        self.act = build(gate, "act") if gate is not None else None
        self.out = init.linear(inner, dim, bias)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """Zeros: `memory` `(b, heads, key_dim, value_dim)` in at least float32, and the convolution's inputs."""
        memory = like.new_zeros(batch, self.heads, self.key_dim, self.value_dim, dtype=wide(like))
        state: dict[str, Any] = {"memory": memory}
        return state if self.conv is None else {**state, "conv": self.conv.init_state(batch, like=like)}

    def mix(
        self, x: Float[Tensor, "b n c"], state: State, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        after: dict[str, Any] = {}
        qkv = self.qkv(x)
        if self.conv is not None:
            qkv, after["conv"] = self.conv(qkv, state["conv"], resets)
        q, k, v = qkv.split(self.widths, -1)
        q, k, v = (self.split(t, d) for t, d in ((q, self.key_dim), (k, self.key_dim), (v, self.value_dim)))
        y, read = self.read(x, q, k, v, state, resets)
        y = y.transpose(1, 2)
        y = y.flatten(2) if self.norm_of != "head" else y
        y = y if self.norm is None else self.norm(y)
        y = y.flatten(2)
        if self.gate is not None and self.act is not None:
            y = y * self.act(self.gate(x))
        return self.out(y), after | read

    def read(
        self,
        x: Float[Tensor, "b n c"],
        q: Float[Tensor, "b h n k"],
        k: Float[Tensor, "b h n k"],
        v: Float[Tensor, "b h n v"],
        state: State,
        resets: Bool[Tensor, "b n"] | None,
    ) -> tuple[Float[Tensor, "b h n v"], State]:
        """What the heads read, and the new state: `recur` with the decay and rule of the part."""
        return self.recur(q, k, v, state, resets)

    def recur(
        self,
        q: Float[Tensor, "b h n k"],
        k: Float[Tensor, "b h n k"],
        v: Float[Tensor, "b h n v"],
        state: State,
        resets: Bool[Tensor, "b n"] | None,
        *,
        log_decay: Tensor | None = None,
        beta: Float[Tensor, "b h n"] | None = None,
    ) -> tuple[Float[Tensor, "b h n v"], dict[str, Any]]:
        """The recurrence from `state`, queries divided by the root of their channels; options as the kernel's."""
        q, memory = q * self.key_dim**-0.5, state["memory"]
        y, memory = linear_recurrence(q, k, v, log_decay=log_decay, beta=beta, resets=resets, state=memory)
        return y, {"memory": memory}

    def split(self, t: Float[Tensor, "b n hd"], channels: int) -> Float[Tensor, "b h n d"]:
        """Channels as heads, repeated where neighbouring heads share them."""
        t = t.unflatten(-1, (-1, channels)).transpose(1, 2)
        return t if t.shape[1] == self.heads else t.repeat_interleave(self.heads // t.shape[1], 1)


def head_channels(dim: int, heads: int, given: int | None, expand: float, part: str, what: str) -> int:
    """Channels of a head: as given, or expand * dim / heads. Raises `OptionError` where that is no whole number."""
    if given is not None:
        return given
    channels = expand * dim / heads if heads > 0 else 0.0
    if heads < 1 or channels < 1 or channels != int(channels):
        raise OptionError(
            f"{part}: {heads} heads do not share {expand} * {dim} channels of {what}s evenly; "
            f"take a number of heads that divides them{', or give head_dim' if what == 'head' else ''}."
        )
    return int(channels)


def normalize(t: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n d"]:
    """To length 1, as keys of the delta rule are: what is written then is read back whole."""
    return t * torch.rsqrt(t.square().sum(-1, keepdim=True) + 1e-6)
