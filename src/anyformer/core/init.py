"""Starting values of weights, by the names that papers give them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def trunc_normal(weight: Tensor, std: float = 0.02) -> Tensor:
    """Normal with deviation `std`, cut at two deviations (ViT and its descendants)."""
    if weight.is_meta:
        return weight
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear(inputs: int, outputs: int, bias: bool = True, std: float = 0.02) -> nn.Linear:
    """A linear layer with truncated normal weights and zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    trunc_normal(layer.weight, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def lecun_normal(weight: Tensor) -> Tensor:
    """Normal with variance 1 / inputs."""
    fan_in = weight[0].numel()
    with torch.no_grad():
        return weight.normal_(0, math.sqrt(1 / fan_in))
