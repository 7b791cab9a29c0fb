"""A sparse mixture of linear experts whose gate reads a condition, such as the time of a diffusion, and no token."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import Part
from anyformer.core.spec import Spec


class ConditionGate(nn.Module):
    """softmax(W silu(c) + b) over the experts, and the `k` largest of it: `(b, c)` to two `(b, experts)`.

    What is kept is not divided by its sum.
    """

    def __init__(self, dim: int, experts: int, k: int):
        super().__init__()
        self.k = k
        self.act = build(Spec("silu"), "act")
        self.linear = init.linear(dim, experts)

    def probabilities(self, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b m"]:
        """Of every expert; a row adds up to 1."""
        return self.linear(self.act(condition)).softmax(-1)

    def mask(self, probabilities: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """1 for the `k` likeliest experts of a row, 0 for the others."""
        return torch.zeros_like(probabilities).scatter(-1, probabilities.topk(self.k, -1).indices, 1.0)

    def forward(self, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b m"]:
        """The probabilities of the experts that are active, 0 for the others."""
        probabilities = self.probabilities(condition)
        return probabilities * self.mask(probabilities)


class ConditionedExperts(Part):
    """sum_e g_e (x W_e + b_e) over the `k` experts that a sample's condition chooses, the same for all its tokens.

    Park et al. 2024 (Switch-DiT), arXiv:2403.09176. As the experts are linear and a sample's tokens share
    its gate, the sum is one linear map per sample, x (sum_e g_e W_e) + sum_e g_e b_e, and is computed so. Cost a
    sample: (tokens + experts) c^2 multiply-adds, whatever `k`; memory for c^2 weights a sample.

    Args:
        dim: channels.
        experts: linear maps; they start as zero, so a new mixture gives 0.
        k: how many of them a condition activates. With k above experts / 2, any two conditions share one.

    Raises:
        OptionError: `k` is not 1 to `experts`.
        SizeError: the batch of the conditions is another than the tokens'.
    """

    name = "conditioned_experts"
    kind = "experts"
    papers = ("switch_dit",)

    def __init__(self, dim: int, *, experts: int = 3, k: int = 2):
        super().__init__()
        if not 1 <= k <= experts:
            raise OptionError(f"k experts of all are active: k is 1 to experts ({experts}); given k={k}.")
        self.gate = ConditionGate(dim, experts, k)
        self.weight = nn.Parameter(torch.zeros(experts, dim, dim))
        self.bias = nn.Parameter(torch.zeros(experts, dim))

    def forward(self, x: Float[Tensor, "b *grid c"], condition: Float[Tensor, "b c"]) -> Float[Tensor, "b *grid c"]:
        if len(x) != len(condition):
            raise SizeError(f"every sample has one condition; given {len(x)} samples and {len(condition)} conditions.")
        gates = self.gate(condition)
        weight = torch.einsum("bm,mij->bij", gates, self.weight)
        return torch.baddbmm((gates @ self.bias)[:, None], x.flatten(1, -2), weight).view_as(x)
