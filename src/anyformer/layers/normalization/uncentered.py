"""Norms that divide by the deviation and take no mean off, and their centred forms over groups and over all.

Of B-cos networks, in which a norm may scale but not shift: Boehle et al. 2022, arXiv:2205.10268; as
Arya et al. 2024 (B-cosification), arXiv:2411.00715, use them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.part import Norm
from anyformer.layers.normalization.norms import BatchNorm, LayerNorm


def scaled(
    x: Float[Tensor, "*b c"], variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Float[Tensor, "*b c"]:
    """x / sqrt(variance + eps), then scale and bias."""
    y = x / (variance + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class GroupNorm(Norm):
    """Groups of channels over the whole grid of a sample to mean 0 and variance 1. Wu and He 2018, arXiv:1803.08494.

    Args:
        dim: channels.
        groups: how many; `dim` of them normalize every channel alone (instance norm). They divide `dim`.
    """

    name = "groupnorm"
    papers = ("b_cosification",)
    per_token = False
    tiny = {"groups": 2}

    def __init__(self, dim: int, *, groups: int = 32, eps: float = 1e-5):
        super().__init__()
        if groups < 1 or dim % groups:
            fits = [g for g in range(1, dim + 1) if dim % g == 0]
            raise OptionError(f"{self.name}: {groups} groups do not divide {dim} channels; those that fit: {fits}.")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def statistics(self, x: Float[Tensor, "b *grid c"]) -> tuple[Tensor, Tensor]:
        """Variance and mean of every channel's group, each `(b, 1, ..., c)`."""
        grouped = x.flatten(1, -2).unflatten(-1, (self.groups, -1))
        shape = (len(x), *[1] * (x.dim() - 2), -1)
        found = torch.var_mean(grouped, (1, 3), unbiased=False)
        variance, mean = (t.repeat_interleave(x.shape[-1] // self.groups, 1).view(shape) for t in found)
        return variance, mean

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        variance, mean = self.statistics(x)
        return scaled(x - mean, variance, self.weight, self.bias, self.eps)


class UncenteredGroupNorm(GroupNorm):
    """Groups of channels over the whole grid of a sample to deviation 1; no mean is taken off.

    Arguments as `GroupNorm`'s.
    """

    name = "uncentered_groupnorm"

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return scaled(x, self.statistics(x)[0], self.weight, self.bias, self.eps)


class UncenteredLayerNorm(LayerNorm):
    """Each token to deviation 1 over its channels; no mean is taken off. Arguments as `LayerNorm`'s."""

    name = "uncentered_layernorm"
    papers = ("b_cosification",)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return scaled(x, x.var(-1, unbiased=False, keepdim=True), self.weight, self.bias, self.eps)


class UncenteredBatchNorm(BatchNorm):
    """Each channel to deviation 1 over batch and grid, by the running variance in evaluation; no mean is taken off.

    Arguments as `BatchNorm`'s.
    """

    name = "uncentered_batchnorm"
    papers = ("b_cosification",)
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        variance = self.running_var
        if self.training:
            variance = x.flatten(0, -2).var(0, unbiased=False)
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_var.lerp_(variance, self.momentum)
        return scaled(x, variance, self.weight, self.bias, self.eps)


class AllNorm(BatchNorm):
    """All numbers of a batch together to mean 0 and variance 1; one scale and one bias.

    Args:
        dim: channels; any.
        eps, momentum: as `BatchNorm`'s.
    """

    name = "allnorm"
    papers = ("b_cosification",)

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(1, eps=eps, momentum=momentum)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return super().forward(x[..., None])[..., 0]


class UncenteredAllNorm(UncenteredBatchNorm):
    """All numbers of a batch together to deviation 1; no mean is taken off. Arguments as `AllNorm`'s."""

    name = "uncentered_allnorm"

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(1, eps=eps, momentum=momentum)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return super().forward(x[..., None])[..., 0]
