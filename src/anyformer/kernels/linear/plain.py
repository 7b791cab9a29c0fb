"""act(x W^T + b), the shortest way."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}
"""Activations by name; the keys are what `linear_act` takes."""


def linear_act_plain(x: Float[Tensor, "*b i"], weight: Tensor, bias: Tensor | None, act: str) -> Float[Tensor, "*b o"]:
    """A linear layer and then an activation."""
    return ACTIVATIONS[act](F.linear(x, weight, bias))
