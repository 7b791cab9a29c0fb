"""Positions as a bias of attention scores along a sequence."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import Part


class Alibi(Part):
    """-slope_h |i - j| added to the scores of head h; nothing is learned, any length.

    Press et al. 2021, arXiv:2108.12409, section 3. Slopes are 2^(-8 h / heads) where heads is a power of two, else
    those of the next lower power and every second one of the next higher.
    """

    name = "alibi"
    kind = "bias"
    tiny = {"heads": 3}

    def __init__(self, heads: int):
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes(heads)), persistent=False)

    def forward(self, queries: int, keys: int, device: torch.device) -> Float[Tensor, "h q k"]:
        """The bias of `queries` that end where the `keys` end."""
        rows = torch.arange(queries, device=device)[:, None] + (keys - queries)
        return -self.slopes[:, None, None] * (rows - torch.arange(keys, device=device)).abs()


def slopes(heads: int) -> list[float]:
    """ALiBi's slope of each head."""
    lower = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    higher = [2 ** (-4 * h / lower) for h in range(1, 2 * lower + 1, 2)]
    return first + higher[: heads - lower]
