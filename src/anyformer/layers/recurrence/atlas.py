"""OmegaNet and Atlas: memories of many tokens at once, with polynomial features and a better inner optimizer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.core.state import State, map_state
from anyformer.layers.attention.linear.heads import normalize
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.convolution.short_conv import ShortConv
from anyformer.layers.recurrence.memory import MemoryMixer
from anyformer.layers.recurrence.omega import fresh, omega_rule
from anyformer.layers.recurrence.recurrent import wide


class OmegaNet(MemoryMixer):
    """M_t = alpha_t M_{t-1} - eta_t grad sum_{i = t-c+1}^t gamma_i |M(phi(k_i)) - v_i|^2 / 2, read by phi(q_t).

    Behrouz et al. 2025, arXiv:2505.23735, section 3 (Omega rule). M is a matrix or an MLP of each head, phi a feature
    map that raises what it can hold, alpha, eta and gamma sigmoids of the token; see `omega_rule` for chunks. Queries
    and keys have length 1, before and after phi, and come with the values from a short convolution.
    Cost: tokens times heads times (window + 3 chunk) numbers of a head's memory; the state does not grow.

    Args:
        dim, heads: channels; heads.
        window: c, tokens that are learned together.
        features: phi.
        depth, ratio: layers of the memory, and hidden channels over those of a head.
        chunk: tokens whose gradients are taken at the memory before them.
        rate: the largest eta.
        conv: taps of the convolution of q, k and v; 0 for none.

    Raises:
        OptionError: a window, chunk or depth below 1, or more features than their limit.
    """

    name = "omeganet"
    papers = ("atlas_memory",)
    tiny = {"heads": 4, "window": 3, "chunk": 4, "features": Spec("polynomial_features", degree=2)}
    gated: ClassVar[tuple[str, ...]] = ("keep", "gamma", "rate")
    steps: ClassVar[int] = 0

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        window: int = 8,
        features: Spec = Spec("polynomial_features"),
        depth: int = 1,
        ratio: float = 2.0,
        chunk: int = 16,
        rate: float = 0.1,
        conv: int = 4,
    ):
        super().__init__()
        if min(window, chunk, depth) < 1 or rate <= 0 or conv < 0:
            raise OptionError(
                f"{self.name} takes a window, a chunk and a depth of 1 or more, a rate above 0 and 0 or more taps; "
                f"given window={window}, chunk={chunk}, depth={depth}, rate={rate}, conv={conv}."
            )
        self.window, self.chunk, self.rate = window, chunk, rate
        self.qkv = QKV(dim, heads=heads, bias=False, part=self.name)
        self.conv = ShortConv(3 * heads * self.qkv.head_dim, taps=conv) if conv else None
        d = self.qkv.head_dim
        self.features = build(features, "features", head_dim=d)
        hidden = int(ratio * d)
        widths = [self.features.features, *[hidden] * (depth - 1), d]
        # A matrix learns from nothing; the layers of an MLP would never leave it.
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(heads, i, o) * (i**-0.5 if depth > 1 else 0.02)) for i, o in pairwise(widths)
        )
        self.gates = init.linear(dim, len(self.gated) * heads)
        with torch.no_grad():
            self.gates.bias[:heads] = 4.0  # at first it keeps nearly all
        self.out = init.linear(dim, dim, False)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """Memories `(b, h, inputs, outputs)` of each layer, where gradients are taken, and momentum, all in at least
        float32; the last window - 1 keys, values and their weights; the convolution's inputs; `place` in a chunk."""
        weights = [w.to(wide(like)).repeat(batch, 1, 1) for w in self.weights]
        heads = self.qkv.heads
        state = map_state(fresh(weights, self.window, self.qkv.head_dim), lambda t: t.unflatten(0, (batch, heads)))
        if self.conv is not None:
            state["conv"] = self.conv.init_state(batch, like=like)
        return {**state, "place": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def read(
        self, x: Float[Tensor, "b n c"], state: State, place: int, resets: Bool[Tensor, "b m"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        b, heads = len(x), self.qkv.heads
        after = {"place": (state["place"] + x.shape[1]) % self.chunk}
        q, k, v = self.qkv(x)
        if self.conv is not None:
            starts = None if resets is None else F.pad(resets[..., None], (0, self.chunk - 1)).flatten(1)
            joined, after["conv"] = self.conv(torch.cat([merge_heads(t) for t in (q, k, v)], -1), state["conv"], starts)
            q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in joined.chunk(3, -1))
        q, k = (normalize(self.features(normalize(t.to(wide(t))))).flatten(0, 1) for t in (q, k))
        scores = self.gates(x).to(wide(x)).unflatten(-1, (-1, heads)).permute(2, 0, 3, 1).flatten(1, 2)
        memory = {name: held for name, held in state.items() if name not in ("conv", "place")}
        y, memory = omega_rule(
            q, k, v.to(wide(v)).flatten(0, 1), **self.pace(dict(zip(self.gated, scores, strict=True))),
            state=map_state(memory, lambda t: t.flatten(0, 1)),
            window=self.window, chunk=self.chunk, place=place, steps=self.steps,
            resets=None if resets is None else resets.repeat_interleave(heads, 0),
        )  # fmt: skip
        y = self.out(merge_heads(y.unflatten(0, (b, heads)).to(x.dtype)))
        return y, {**map_state(memory, lambda t: t.unflatten(0, (b, heads))), **after}

    def pace(self, scores: dict[str, Tensor]) -> dict[str, Any]:
        """What `omega_rule` is told of every token, from the scores `(g, n)` of the gates."""
        carry = scores.get("carry")
        return {
            "log_keep": F.logsigmoid(scores["keep"]),
            "gamma": scores["gamma"].sigmoid(),
            "rate": self.rate * scores["rate"].sigmoid(),
            "log_carry": None if carry is None else F.logsigmoid(carry),
        }


class Atlas(OmegaNet):
    """OmegaNet with momentum, and Muon in place of the gradient: M_t = alpha_t M_{t-1} - eta_t NewtonSchulz(S_t).

    S_t = theta_t S_{t-1} + the gradient over the window. Behrouz et al. 2025, arXiv:2505.23735, section 5. Steps have
    singular values near 1, so `rate` alone says how far they go. Cost: `OmegaNet`'s, and five
    Newton-Schulz steps of each head's memory for each token. Arguments as `OmegaNet`'s.
    """

    name = "atlas"
    papers = ("atlas_memory",)
    gated = ("keep", "gamma", "rate", "carry")
    steps = 5


class Titans(OmegaNet):
    """S_t = theta_t S_{t-1} - eta_t grad |M(k_t) - v_t|^2 / 2, M_t = alpha_t M_{t-1} + S_t: surprise with a momentum.

    The long-term memory of Behrouz, Zhong and Mirrokni 2024, arXiv:2501.00663, section 3.1, equations 9 to 14: the
    Omega rule of one token, gradients frozen in chunks as there in section 3.2. The step size of a token is its gamma;
    the largest is less than OmegaNet's, as momentum adds steps up: at 0.1 memories of two layers may leave all bounds
    within 64 tokens. Arguments as `OmegaNet`'s.
    """

    name = "titans"
    papers = ("atlas_memory",)
    tiny = {"heads": 2, "chunk": 4, "depth": 2}
    gated = ("keep", "gamma", "carry")

    def __init__(
        self,
        dim: int,
        *,
        window: int = 1,
        features: Spec = Spec("identity_features"),
        rate: float = 0.03,
        **options: Any,
    ):
        super().__init__(dim, window=window, features=features, rate=rate, **options)

    def pace(self, scores: dict[str, Tensor]) -> dict[str, Any]:
        gamma = self.rate * scores["gamma"].sigmoid()
        return {
            "log_keep": F.logsigmoid(scores["keep"]),
            "gamma": gamma,
            "rate": torch.ones_like(gamma),
            "log_carry": F.logsigmoid(scores["carry"]),
        }
