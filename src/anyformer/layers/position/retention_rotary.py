"""Rotary positions whose slowest pair of channels turns at exactly 1 / base."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.layers.position.rotary import Rotary


class RetentionRotary(Rotary):
    """Rotations at the frequencies base^(-i / (pairs - 1)), i = 0 ... pairs - 1, both ends included.

    Rotary's own stop before 1 / base. Sun et al. 2023 (RetNet), arXiv:2307.08621, as its authors' code and RMT's
    have it. Arguments as `Rotary`'s.
    """

    name = "retention_rotary"
    papers = ("rmt",)
    tiny = {"head_dim": 8}

    def frequencies(self, device: torch.device) -> Float[Tensor, " pairs"]:
        return self.base ** -torch.linspace(0, 1, self.rotated // 2, device=device)
