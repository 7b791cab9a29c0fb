"""HGRN: a gated linear recurrence of every channel by itself."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.kernels.linear_recurrence import linear_recurrence
from anyformer.layers.recurrence.bounded import BoundedRecurrent, forgotten, log_forget
from anyformer.layers.recurrence.recurrent import wide

CHUNK = 16
"""Tokens of a chunk: each channel has its own decays, so a chunk costs its square for every channel."""


class HGRN(BoundedRecurrent):
    """h_t = f_t h_{t-1} + (1 - f_t) silu(W_i x_t), f_t = l + (1 - l) sigmoid(W_f x_t), of every channel by itself.

    Out comes W_o (norm(h_t) silu(W_g x_t)). Qin et al. 2023, arXiv:2311.04823, section 3, with real states, as
    flash-linear-attention has it (the paper's have a phase). The bound l is as `HGRN2`'s.
    Cost: tokens (4 c^2 expand + 32 c expand) multiply-adds; the state does not grow.

    Args:
        dim: channels.
        expand: channels of the state over dim.
        lower_bound: l, from 0 (below 1).
        norm: of the states of a token.
    """

    name = "hgrn"
    papers = ("baby_hgrn",)
    tiny = {"lower_bound": 0.25}

    def __init__(
        self, dim: int, *, expand: float = 1.0, lower_bound: float = 0.0, norm: Spec = Spec("rmsnorm", eps=1e-5)
    ):
        super().__init__()
        inner = int(dim * expand)
        if not 0 <= lower_bound < 1 or inner < 1:
            raise OptionError(
                f"hgrn: lower_bound lies from 0 to below 1, and dim * expand is 1 or more; given {lower_bound} and "
                f"{dim} * {expand}."
            )
        self.input_forget = init.linear(dim, 2 * inner, False)
        self.gate = init.linear(dim, inner, False)
        self.norm = build(norm, "norm", dim=inner)
        self.out = init.linear(inner, dim, False)
        self.register_buffer("lower_bound", torch.full((inner,), float(lower_bound)), persistent=False)

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """Zeros: `hidden` `(b, inner)` in at least float32; and `bound` `(b, inner)`."""
        hidden = like.new_zeros(batch, self.lower_bound.numel(), dtype=wide(like))
        return {"hidden": hidden, "bound": self.lower_bound.expand(batch, -1)}

    def mix(
        self, x: Float[Tensor, "b n c"], state: State, resets: Bool[Tensor, "b n"] | None
    ) -> tuple[Float[Tensor, "b n c"], State]:
        value, forget = self.input_forget(x).chunk(2, -1)
        bound = state["bound"][:, None]
        written = F.silu(value) * forgotten(forget, bound)
        h, hidden = gated_sum(written, log_forget(forget, bound), state["hidden"], resets)
        y = self.out(self.norm(h.to(x.dtype)) * F.silu(self.gate(x)))
        return y, {"hidden": hidden, "bound": state["bound"]}


def gated_sum(
    x: Float[Tensor, "b n c"],
    log_decay: Float[Tensor, "b n c"],
    state: Float[Tensor, "b c"] | None = None,
    resets: Bool[Tensor, "b n"] | None = None,
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b c"]]:
    """h_t = exp(log_decay_t) h_{t-1} + x_t of every channel, and the last h: a linear recurrence of heads of one."""
    value = x.transpose(1, 2)[..., None]
    one = torch.ones_like(value)
    y, last = linear_recurrence(
        one, one, value, log_decay=log_decay.transpose(1, 2), resets=resets, chunk=CHUNK,
        state=None if state is None else state[..., None, None],
    )  # fmt: skip
    return y[..., 0].transpose(1, 2), last[..., 0, 0]
