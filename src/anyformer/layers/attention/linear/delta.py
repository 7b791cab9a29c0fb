"""The delta rule: a key's old value is taken out of the memory before its new one is written."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.layers.attention.linear.heads import RecurrentHeads, head_channels, normalize
from anyformer.layers.recurrence.recurrent import step_bias


class DeltaRule(RecurrentHeads):
    """Heads that write by the delta rule: b_t = sigmoid(w x_t), keys and queries of length 1, all behind silu.

    Arguments as `RecurrentHeads`'s, and `negative`: b_t from 0 to 2 (arXiv:2411.12537).
    """

    def __init__(self, dim: int, *, negative: bool, **options: Any):
        super().__init__(dim, **options)
        self.largest = 2.0 if negative else 1.0
        self.beta = init.linear(dim, self.heads, False)

    def read(
        self,
        x: Float[Tensor, "b n c"],
        q: Float[Tensor, "b h n k"],
        k: Float[Tensor, "b h n k"],
        v: Float[Tensor, "b h n v"],
        state: State,
        resets: Bool[Tensor, "b n"] | None,
    ) -> tuple[Float[Tensor, "b h n v"], dict[str, Any]]:
        if self.conv is None:
            q, k, v = F.silu(q), F.silu(k), F.silu(v)
        beta = self.largest * self.beta(x).sigmoid().transpose(1, 2)
        return self.recur(normalize(q), normalize(k), v, state, resets, log_decay=self.log_decay(x), beta=beta)

    def log_decay(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n"] | None:
        """The log of what each head keeps at each token; None: all."""
        return None


class DeltaNet(DeltaRule):
    """S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T, with b_t = sigmoid(w x_t) and keys and queries of length 1.

    Schlag et al. 2021, arXiv:2102.11174; in parallel, with short convolutions, Yang et al. 2024, arXiv:2406.06484.
    Cost: as `RecurrentHeads`, with the triangular systems of chunks besides.

    Args:
        dim, heads: channels; heads.
        expand_k, expand_v: channels of all keys and of all values over dim.
        conv: taps of the convolution of q, k and v; 0 for none, silu in its place.
        negative: b_t from 0 to 2, so that a key's value can also be turned around (arXiv:2411.12537).
        norm, gate: norm of each head's output; activation of a gate.
    """

    name = "deltanet"
    papers = ("atlas_memory", "survey_after_transformers")
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        expand_k: float = 1.0,
        expand_v: float = 1.0,
        conv: int = 4,
        negative: bool = False,
        norm: Spec | None = Spec("rmsnorm", eps=1e-5),
        gate: Spec | None = None,
    ):
        key_dim = head_channels(dim, heads, None, expand_k, self.name, "key")
        value_dim = head_channels(dim, heads, None, expand_v, self.name, "value")
        super().__init__(
            dim, heads=(heads,) * 3, key_dim=key_dim, value_dim=value_dim, conv=conv, negative=negative, norm=norm,
            gate=gate,
        )  # fmt: skip


class GatedDeltaNet(DeltaRule):
    """S_t = a_t S_{t-1} + b_t k_t (v_t - a_t S_{t-1}^T k_t)^T: the delta rule in a memory that also forgets.

    a_t = exp(-exp(A) softplus(w_a x_t + dt)) of each head, b_t and the rest as in `DeltaNet`. Yang et al. 2024,
    arXiv:2412.06464, section 3. Cost: as `DeltaNet`.

    Args:
        dim, heads: channels; heads of queries and keys.
        value_heads: heads of values and of the state (None: as many); a multiple of `heads`.
        head_dim: key channels of a head (None: 3/4 dim / heads, as the paper's sizes have it).
        expand_v: value channels of a head over its key channels.
        conv, negative: as `DeltaNet`'s.
        norm, gate: norm of each head's output; activation of its gate.
        dt_min, dt_max: the softplus starts log-uniform between them.
    """

    name = "gated_deltanet"
    papers = ("atlas_memory", "survey_after_transformers")
    tiny = {"heads": 1, "value_heads": 2, "head_dim": 4}

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        value_heads: int | None = None,
        head_dim: int | None = None,
        expand_v: float = 2.0,
        conv: int = 4,
        negative: bool = False,
        norm: Spec | None = Spec("rmsnorm", eps=1e-5),
        gate: Spec | None = Spec("silu"),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ):
        if not 0 < dt_min <= dt_max:
            raise OptionError(f"gated_deltanet takes 0 < dt_min <= dt_max; given {dt_min} and {dt_max}.")
        values = heads if value_heads is None else value_heads
        key_dim = head_channels(dim, heads, head_dim, 0.75, self.name, "head")
        super().__init__(
            dim, heads=(heads, heads, values), key_dim=key_dim, value_dim=int(expand_v * key_dim), conv=conv,
            negative=negative, norm=norm, gate=gate,
        )  # fmt: skip
        self.decay = init.linear(dim, self.heads, False)
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.dt_bias = nn.Parameter(step_bias(self.heads, dt_min, dt_max))

    def log_decay(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n"]:
        log_decay = -self.A_log.float().exp() * F.softplus(self.decay(x).float() + self.dt_bias)
        return log_decay.transpose(1, 2)
