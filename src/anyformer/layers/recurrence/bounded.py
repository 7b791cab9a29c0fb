"""Forget gates that are bounded from below, so that what a layer keeps lasts as long as the bound says at least."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.recurrence.recurrent import Recurrent, wide


class BoundedRecurrent(Recurrent):
    """A recurrence with forget gates of at least `lower_bound`, one for each of its channels.

    The bound is fixed, or what a model that learns it over its depth tells (`bounded_decoder`); so it stands in the
    state, as `bound` `(b, channels)`.
    """

    bounded = True
    lower_bound: Tensor

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        lower_bound: Float[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        """As every mixer's; `lower_bound` in place of its own."""
        state = self.init_state(len(x), like=x)
        if lower_bound is not None:
            state = {**state, "bound": lower_bound.expand(len(x), -1)}
        return self.run(x, segments, state)


def log_forget(x: Tensor, bound: Tensor) -> Tensor:
    """log(l + (1 - l) sigmoid(x)), in float32 at least, and finite wherever x is."""
    gate = bound + (1 - bound) * x.to(wide(x)).sigmoid()
    return gate.clamp(min=torch.finfo(gate.dtype).tiny).log()


def forgotten(x: Tensor, bound: Tensor) -> Tensor:
    """What the gate leaves: (1 - l) sigmoid(-x)."""
    return (1 - bound) * (-x).sigmoid()
