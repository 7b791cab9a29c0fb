"""Batch norm whose statistics and scales are fixed: what a pretrained backbone has inside a detector."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import Norm


class FrozenBatchNorm(Norm):
    """weight * (x - mean) / sqrt(var + eps) + bias with four loaded vectors that nothing trains or updates.

    The state has the names of `BatchNorm`'s, so that its weights load here. Carion et al. 2020 (DETR),
    arXiv:2005.12872, section 4. Cost: one multiply-add a value; a token's result depends on that token alone.
    """

    name = "frozen_batchnorm"
    papers = ("group_detr",)

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(dim))
        self.register_buffer("bias", torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return torch.addcmul((self.bias - self.running_mean * scale).to(x.dtype), x, scale.to(x.dtype))
