"""A norm of what a gate lets through, as it closes Mamba-2's mixer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.kernels.rms_norm import rms_norm


class GatedRMSNorm(nn.Module):
    """RMSNorm of x * silu(gate), each group of neighbouring channels by itself; in at least float32.

    Dao and Gu 2024 (Mamba-2), arXiv:2405.21060, section 7.1 and figure 6. The output has the gate's type.

    Args:
        dim: channels.
        groups: of channels; they divide `dim`.
        eps: added to the mean square.
    """

    def __init__(self, dim: int, *, groups: int = 1, eps: float = 1e-5):
        super().__init__()
        if groups < 1 or dim % groups:
            raise OptionError(f"groups of a gated norm divide its {dim} channels; given {groups}.")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Float[Tensor, "*b c"], gate: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        wide = torch.promote_types(gate.dtype, torch.float32)
        y = x.to(wide) * F.silu(gate.to(wide))
        if self.groups > 1:
            y = y.unflatten(-1, (self.groups, -1))
            y = rms_norm(y, None, self.eps).flatten(-2) * self.weight
        else:
            y = rms_norm(y, self.weight.to(wide), self.eps)
        return y.to(gate.dtype)
