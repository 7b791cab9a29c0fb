"""act(x W^T + b) where nothing is differentiated on a CPU: the activation is applied while the product is written.

A separate activation reads and writes a tensor that is several times the size of the tokens; on a CPU the memory for it
costs more than the arithmetic.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.kernels.linear.plain import linear_act_plain
from anyformer.kernels.reuse import inference_on_cpu

FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "silu": ("swish", "")}
LEAST = 64
"""Tokens from which the fused call pays; below, its set-up costs more than it saves."""


def linear_act(
    x: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, o] | None, act: str
) -> Float[Tensor, "*b o"]:
    """A linear layer and an activation ("gelu", "gelu_tanh", "relu", "silu"); equal to `linear_act_plain`."""
    if inference_on_cpu(x) and x.dtype == weight.dtype == torch.float32 and x.numel() >= LEAST * x.shape[-1]:
        name, algorithm = FUSED[act]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return linear_act_plain(x, weight, bias, act)
