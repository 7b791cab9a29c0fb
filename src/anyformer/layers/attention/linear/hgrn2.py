"""HGRN2: a gated linear recurrence whose state is an outer product, and whose keys are what is forgotten."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.layers.attention.linear.heads import RecurrentHeads, head_channels
from anyformer.layers.recurrence.bounded import BoundedRecurrent, forgotten, log_forget


class HGRN2(BoundedRecurrent, RecurrentHeads):
    """S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T, y_t = norm(S_t^T q_t), f_t = l + (1 - l) sigmoid(W_f x_t).

    Qin et al. 2024, arXiv:2404.07904, section 3.2; q after silu. The bound l of the forget gates keeps late layers'
    memories long: it is fixed here, or what a model that learns it over its depth tells (`bounded_decoder`). It stands
    in the state. Cost: as `RecurrentHeads`.

    Args:
        dim: channels.
        heads: heads (None: dim / expand).
        expand: key channels of a head, the rows of its state.
        lower_bound: l, from 0 (below 1).
        conv: taps of a convolution of q, f and v; 0 for none.
        norm, gate: norm over all channels of a token, and activation of the output's gate (None for none).
    """

    name = "hgrn2"
    papers = ("baby_hgrn",)
    tiny = {"expand": 4, "lower_bound": 0.25}

    def __init__(
        self,
        dim: int,
        *,
        heads: int | None = None,
        expand: int = 128,
        lower_bound: float = 0.0,
        conv: int = 0,
        norm: Spec | None = Spec("rmsnorm", eps=1e-5),
        gate: Spec | None = None,
    ):
        if not 0 <= lower_bound < 1:
            raise OptionError(f"hgrn2: lower_bound lies from 0 to below 1; given {lower_bound}.")
        heads = max(1, dim // expand) if heads is None else heads
        value_dim = head_channels(dim, heads, None, 1.0, self.name, "value")
        super().__init__(
            dim, heads=(heads,) * 3, key_dim=expand, value_dim=value_dim, conv=conv, norm=norm, norm_of="token",
            gate=gate,
        )  # fmt: skip
        bounds = torch.full((heads * expand,), float(lower_bound))
        self.register_buffer("lower_bound", bounds, persistent=False)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """As `RecurrentHeads`'s, and `bound` `(b, heads * expand)`."""
        return {**super().init_state(batch, like=like), "bound": self.lower_bound.expand(batch, -1)}

    def read(
        self,
        x: Float[Tensor, "b n c"],
        q: Float[Tensor, "b h n k"],
        k: Float[Tensor, "b h n k"],
        v: Float[Tensor, "b h n v"],
        state: State,
        resets: Bool[Tensor, "b n"] | None,
    ) -> tuple[Float[Tensor, "b h n v"], dict[str, Any]]:
        bound = state["bound"].unflatten(-1, (self.heads, 1, self.key_dim))
        y, after = self.recur(F.silu(q), forgotten(k, bound), v, state, resets, log_decay=log_forget(k, bound))
        return y, {**after, "bound": state["bound"]}
