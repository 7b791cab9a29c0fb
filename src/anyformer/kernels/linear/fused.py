"""act(x W^T + b) where nothing is differentiated on a CPU: no second tensor for what the activation gives.

A separate activation reads and writes a tensor that is several times the size of the tokens; on a CPU the memory for it
costs more than the arithmetic. Layers with few inputs are bound by memory: one oneDNN call applies the activation while
the product is written. With more inputs torch's own product is the faster one, and the activation acts in place.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.kernels.linear.plain import linear_act_plain
from anyformer.kernels.reuse import inference_on_cpu

FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "silu": ("swish", "")}
IN_PLACE = {
    "gelu": torch._C._nn.gelu_,
    "gelu_tanh": lambda x: torch._C._nn.gelu_(x, approximate="tanh"),
    "relu": torch.relu_,
    "silu": lambda x: F.silu(x, inplace=True),
}
LEAST_TOKENS, MOST_INPUTS = 64, 255
"""From how many tokens, and up to how many inputs, the oneDNN call was the faster one (two cores, AVX-512)."""


def linear_act(x: Float[Tensor, "*b i"], weight: Tensor, bias: Tensor | None, act: str) -> Float[Tensor, "*b o"]:
    """A linear layer and an activation ("gelu", "gelu_tanh", "relu", "silu"); equal to `linear_act_plain`.

    Args:
        x: inputs, the channels last.
        weight, bias: `(outputs, inputs)` and `(outputs,)`.
        act: name of the activation.
    """
    if not inference_on_cpu(x):
        return linear_act_plain(x, weight, bias, act)
    tokens = x.numel() // max(x.shape[-1], 1)
    if x.dtype == weight.dtype == torch.float32 and tokens >= LEAST_TOKENS and x.shape[-1] <= MOST_INPUTS:
        name, algorithm = FUSED[act]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return IN_PLACE[act](F.linear(x, weight, bias))
