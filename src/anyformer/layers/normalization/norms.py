"""Norms over channels-last tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.part import Norm
from anyformer.kernels.reuse import inference_on_cpu
from anyformer.kernels.rms_norm import rms_norm


class LayerNorm(Norm):
    """Each token to mean 0 and variance 1 over its channels, then scale and bias. Ba et al. 2016, arXiv:1607.06450.

    `init` is the first value of the scale: 0 makes a branch that ends with this norm start as nothing (Swin V2).
    """

    name = "layernorm"

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True, init: float = 1.0):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((dim,), float(init)))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return nn.functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


class RMSNorm(Norm):
    """Each token divided by its root mean square, then scaled. Zhang and Sennrich 2019, arXiv:1910.07467."""

    name = "rmsnorm"

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        x = x.to(self.weight.dtype)  # as autocast does it for layer_norm
        return rms_norm(x, self.weight, self.eps)


class SimpleNorm(Norm):
    """Each token divided by the deviation of its channels, then scaled; the mean stays. timm's "simplenorm".

    x weight / sqrt(var(x) + eps), with the unbiased variance. As old weights of timm's "rms" ConvNeXts need it.
    """

    name = "simplenorm"
    papers = ("convnext",)

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return x * torch.rsqrt(x.var(-1, keepdim=True) + self.eps) * self.weight


class GroupNorm1(Norm):
    """The whole grid of a sample to mean 0 and variance 1, then scale and bias per channel.

    GroupNorm with one group, MetaFormer's "modified LayerNorm" (arXiv:2111.11418, appendix).
    """

    name = "groupnorm1"
    papers = ("metaformer",)
    per_token = False

    def __init__(self, dim: int, *, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        y = nn.functional.layer_norm(x, x.shape[1:], eps=self.eps)
        if inference_on_cpu(x):
            return y.mul_(self.weight) if self.bias is None else torch.addcmul(self.bias, y, self.weight, out=y)
        return y * self.weight if self.bias is None else torch.addcmul(self.bias, y, self.weight)


class BatchNorm(Norm):
    """Each channel to mean 0 and variance 1 over batch and grid; running statistics in evaluation.

    Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    name = "batchnorm"
    per_token = False
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        if self.training:
            self.num_batches_tracked.add_(1)
        flat = x.reshape(-1, x.shape[-1])
        y = nn.functional.batch_norm(
            flat, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return y.view(x.shape)

    def into(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        """`forward` in the memory of `x`, as `kernels.reuse.over` asks for it."""
        if self.training or type(self).forward is not BatchNorm.forward or x.dtype != self.weight.dtype:
            return self(x)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return torch.addcmul(self.bias - self.running_mean * scale, x, scale, out=x)
