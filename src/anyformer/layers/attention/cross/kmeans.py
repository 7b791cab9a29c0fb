"""Cross-attention as a step of k-means: every pixel belongs to one centre, and centres take in their pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.spec import Spec


def cluster_sums(logits: Float[Tensor, "b n m"], values: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
    """onehot(argmax over centres of the logits) V: each centre's sum of the pixels for which its logit is largest.

    No gradient reaches the logits. Thousands of pixels may meet in one centre: the sum is float32 whatever they are.
    """
    nearest = logits.detach().argmax(1)
    sums = torch.zeros(*logits.shape[:2], values.shape[-1], device=values.device)
    return sums.scatter_add(1, nearest[..., None].expand_as(values), values.float())


class KMeansCrossAttention(nn.Module):
    """C + onehot(argmax over centres of the logits) V: the softmax over pixels becomes a choice of one centre a pixel.

    Yu et al. 2022 (kMaX-DeepLab), arXiv:2207.04044, equations 5 to 7. The logits, Q_c K_p^T there, come from outside:
    they are the masks that the centres predict and are trained as such, since no gradient passes the argmax. As its
    authors run it, the values are projected and normed, and so is the sum before and after its last projection, whose
    norm starts at 0 as published. Cost: pixels (n + c) for assignment and sums, pixels c^2 for the values.

    Args:
        dim: channels of centres.
        memory_dim: channels of pixels (None: dim).
        norm: norm of values and sums.
    """

    def __init__(self, dim: int, *, memory_dim: int | None = None, norm: Spec = Spec("batchnorm")):
        super().__init__()
        self.value = init.linear(dim if memory_dim is None else memory_dim, dim, bias=False, std=dim**-0.5)
        self.norm_value = build(norm, "norm", dim=dim)
        self.norm_sum = build(norm, "norm", dim=dim)
        self.out = init.linear(dim, dim, bias=False)
        self.norm_out = build(norm, "norm", dim=dim)
        if init.published():
            nn.init.zeros_(self.norm_out.weight)

    def forward(
        self, centres: Float[Tensor, "b n c"], memory: Float[Tensor, "b m i"], logits: Float[Tensor, "b n m"]
    ) -> Float[Tensor, "b n c"]:
        """What is added to the centres."""
        sums = cluster_sums(logits, self.norm_value(self.value(memory)))
        return self.norm_out(self.out(self.norm_sum(sums)))
