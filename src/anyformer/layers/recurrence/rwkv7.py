"""RWKV-7's time mixing: a delta rule whose rates the token decides for each channel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.errors import FitError, OptionError
from anyformer.core.segments import Segments
from anyformer.core.state import State
from anyformer.kernels.low_rank_recurrence import low_rank_recurrence
from anyformer.layers.normalization.head_norm import HeadNorm
from anyformer.layers.recurrence.recurrent import Recurrent, wide
from anyformer.layers.recurrence.rwkv6 import low_rank
from anyformer.layers.recurrence.token_shift import before, depth_ratios, slopes

STRONGEST = -0.6065306597126334
"""The log of the strongest decay, -exp(-1/2)."""


class RWKV7(Recurrent):
    """S_t = (diag(w_t) - kk_t (s_t * kk_t)^T) S_{t-1} + k_t v_t^T: what stood at kk_t is taken out at the rates s_t.

    kk is the key scaled and of length 1, w_t = exp(-exp(-1/2) sigmoid(...)), s_t = sigmoid(...), both of the token.
    Out comes W_o ((norm(r S) + (r k u) v) * g). Values of later layers are mixed with the first layer's where
    `value_rank` is given. Peng et al. 2025 (Goose), arXiv:2503.14456, section 4. Cost: tokens times the linear layers
    and three times the size of S, with the triangular systems of chunks; the state does not grow.

    Args:
        dim: channels.
        head_dim: channels of a head; divides dim.
        decay_rank, rate_rank, gate_rank: of the maps to w, s and g.
        value_rank: of the map to the share of the first layer's values; None: values are a layer's own.
        layer, layers: of the block; shares and biases start by them.
    """

    name = "rwkv7"
    papers = ("synth_icl",)
    first_values = True
    tiny = {"head_dim": 4, "decay_rank": 3, "rate_rank": 3, "gate_rank": 3}

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 64,
        decay_rank: int = 64,
        rate_rank: int = 64,
        gate_rank: int = 128,
        value_rank: int | None = None,
        layer: int = 0,
        layers: int = 1,
    ):
        super().__init__()
        if head_dim < 1 or dim % head_dim:
            raise OptionError(f"rwkv7: head_dim divides the {dim} channels; given {head_dim}.")
        self.head_dim, self.layer = head_dim, layer
        heads = dim // head_dim
        late, early = depth_ratios(layer, layers)
        ramp, slope = slopes(dim), torch.arange(dim) / max(dim - 1, 1) - 0.5
        zigzag = (torch.arange(dim) % head_dim) / max(head_dim - 1, 1) * 2 - 1
        zigzag = zigzag * zigzag.abs()
        powers = (0.2, 0.9, 0.7, 0.7, 0.9, 0.2)
        self.share = nn.Parameter(1 - torch.stack([ramp ** (power * early) for power in powers]))
        self.removal = nn.Parameter(0.71 - 0.1 * slope)
        self.key_rate = nn.Parameter(torch.full((dim,), 1.02))
        self.bonus = nn.Parameter(torch.full((heads, head_dim), -0.04))
        fall = -6 + 6 * (slope + 0.5) ** (1 + late**0.3)
        self.decay = low_rank(dim, decay_rank, dim, nn.Tanh(), fall + 0.5 + 2.5 * zigzag)
        self.rate = low_rank(dim, rate_rank, dim, nn.Identity(), -0.19 + 0.3 * zigzag + 0.4 * slope)
        self.gate = low_rank(dim, gate_rank, dim, nn.Sigmoid(), None)
        self.first = None
        if value_rank is not None and layer > 0:
            self.first = low_rank(dim, value_rank, dim, nn.Identity(), 0.73 - 0.4 * slope)
        self.receptance = init.linear(dim, dim, False)
        self.key = init.linear(dim, dim, False)
        self.value = init.linear(dim, dim, False)
        self.norm = HeadNorm(dim, heads=heads, eps=head_dim * 1e-5)
        self.out = init.linear(dim, dim, False)

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        values: dict[str, list[Tensor]] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        """As every mixer's; `values` holds "first": pieces `(b, tokens, c)` that layer 0 writes and others read."""
        return self.run(x, segments, {**self.init_state(len(x), like=x), "first": self.pieces(values)})

    def extend(
        self, x: Float[Tensor, "b n c"], state: State, values: dict[str, list[Tensor]] | None = None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        """As every mixer's; `values` as `forward`'s."""
        y, state = super().extend(x, {**state, "first": self.pieces(values)})
        return y, {name: state[name] for name in ("shift", "memory")}

    def pieces(self, values: dict[str, list[Tensor]] | None) -> list[Tensor] | Iterator[Tensor]:
        """Where layer 0 puts its values, block by block; where later layers take them from."""
        values = {} if values is None else values
        if self.layer == 0:
            values["first"] = []
            return values["first"]
        return iter(values.get("first", ()))

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """Zeros: `shift` `(b, c)` as `like`, `memory` `(b, heads, head_dim, head_dim)` in at least float32."""
        heads = len(self.bonus)
        memory = like.new_zeros(batch, heads, self.head_dim, self.head_dim, dtype=wide(like))
        return {"shift": like.new_zeros(batch, len(self.removal)), "memory": memory}

    def mix(
        self, x: Float[Tensor, "b n c"], state: State, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        apart = before(x, state["shift"], resets) - x
        r, w, k, v, s, g = (x + apart * share for share in self.share)
        log_decay = STRONGEST * self.decay(w).to(wide(x)).sigmoid()
        r, k, rate = self.receptance(r), self.key(k), self.rate(s).sigmoid()
        v = self.with_first(self.value(v), v, state["first"])
        removal = F.normalize(self.split(k * self.removal), dim=-1)
        k = k * (1 + (rate - 1) * self.key_rate)
        r, k, v, rate, log_decay = (self.split(t) for t in (r, k, v, rate, log_decay))
        y, memory = low_rank_recurrence(
            r, k, v, -removal, removal * rate, log_decay, resets=resets, state=state["memory"], least=STRONGEST
        )
        own = (r * k * self.bonus[:, None]).sum(-1, keepdim=True) * v
        y = self.norm(merged(y)) + merged(own)
        y = self.out(y * self.gate(g))
        shift = x[:, -1].clone() if x.shape[1] else state["shift"]
        return y, {**state, "shift": shift, "memory": memory}

    def with_first(self, v: Tensor, x: Tensor, first: list[Tensor] | Iterator[Tensor]) -> Float[Tensor, "b n c"]:
        """Values mixed with the first layer's, or, in that layer, kept for the others."""
        if isinstance(first, list):
            first.append(v)
        if self.first is None or isinstance(first, list):
            return v
        values = next(first, None)
        if values is None:
            raise FitError(
                "rwkv7 with value_rank mixes its values with the first layer's, and nobody hands them on here: build "
                "it in first_value_prenorm blocks of a first_value_decoder whose first mixer is an rwkv7, or take "
                "value_rank=None."
            )
        return torch.lerp(v, values, self.first(x).sigmoid())

    def split(self, t: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        """Channels as heads."""
        return t.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def merged(t: Float[Tensor, "b h n d"]) -> Float[Tensor, "b n c"]:
    """Heads as channels."""
    return t.transpose(1, 2).flatten(2)
