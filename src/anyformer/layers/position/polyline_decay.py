"""Decays that every token chooses, multiplied along L-shaped paths of the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part
from anyformer.kernels.polyline_mask import line_log_mask


class PolylineDecay(Part):
    """Log masks of all rows and columns of a grid from tokens `(b, h, w, c)`: the two halves of a polyline path mask.

    Every token has in every head a decay along its row, exp(A softplus(w_1 x + t)), and one along its column, with
    w_2 in place of w_1; A < 0. Two places of a line are masked by the product of the decays on the way. Zhao et al.
    2025 (PPMA), arXiv:2506.15940, section 3; A and t as Mamba-2's. All heads share w_1 and w_2. Cost: 2 tokens c
    multiply-adds, and tokens (h + w) heads subtractions.

    Args:
        heads, head_dim: of the attention.
        reach: smallest and largest softplus(t) that heads start with.
        rates: smallest and largest -A that they start with.

    Raises:
        OptionError: a reach or rates that are not two numbers above 0, in order.
        SizeError: tokens without a grid of rows and columns.
    """

    name = "polyline_decay"
    kind = "bias"
    papers = ("ppma",)
    tiny = {"heads": 2, "head_dim": 4}

    def __init__(
        self,
        heads: int,
        head_dim: int,
        *,
        reach: Sequence[float] = (0.001, 0.1),
        rates: Sequence[float] = (1.0, 1.1),
    ):
        super().__init__()
        for option, limits in (("reach", reach), ("rates", rates)):
            if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
                raise OptionError(
                    f"{self.name}.{option} is a smallest and a largest value above 0; given {tuple(limits)}."
                )
        self.heads = heads
        self.project = nn.Parameter(trunc_normal(torch.empty(2, head_dim)))
        low, high = (math.log(r) for r in reach)
        start = (low + (high - low) * torch.rand(heads)).exp()
        self.shift = nn.Parameter(start + torch.log(-torch.expm1(-start)))  # the inverse of softplus
        self.log_rate = nn.Parameter((rates[0] + (rates[1] - rates[0]) * torch.rand(heads)).log())

    def steps(self, x: Float[Tensor, "b *grid c"]) -> tuple[Float[Tensor, "b *grid h"], Float[Tensor, "b *grid h"]]:
        """The logs of every token's decays along its row and along its column."""
        raw = x.unflatten(-1, (self.heads, -1)) @ self.project.mT + self.shift[:, None]
        across, along = (-self.log_rate.exp()[:, None] * F.softplus(raw)).unbind(-1)
        return across, along

    def forward(self, x: Float[Tensor, "b h w c"]) -> tuple[Float[Tensor, "b h n w w"], Float[Tensor, "b w n h h"]]:
        """Log masks of every row, and of every column, for all heads n."""
        if x.dim() != 4:
            raise SizeError(
                f"{self.name} follows paths on a grid of rows and columns, tokens (batch, rows, columns, channels); "
                f"given {tuple(x.shape)}: unflatten the tokens to their grid."
            )
        across, along = self.steps(x)
        return line_log_mask(across.transpose(2, 3)), line_log_mask(along.permute(0, 2, 3, 1))
