"""Attention that fades with the Manhattan distance on a grid, as a bias of its scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.core.part import Part


class ManhattanDecay(Part):
    """log D with D_nm = gamma^(|x_n - x_m| + |y_n - y_m|), one gamma a head, for all pairs of places of a grid.

    Fan et al. 2023 (RMT), arXiv:2309.11523, equation 3. D is the Kronecker product of the decays along the axes, so
    log D is their sum. Nothing is learned; any grid of any rank. Cost: heads tokens^2 additions.

    Args:
        heads: heads of the attention.
        gammas: the decay of each head; None: 1 - 2^-(start + span h / heads) for head h.
        start, span: where the exponents start, and how far they go.

    Raises:
        OptionError: a gamma outside (0, 1], or not one for each head.
    """

    name = "manhattan_decay"
    kind = "bias"
    papers = ("rmt",)
    tiny = {"heads": 2}
    rates: Tensor

    def __init__(self, heads: int, *, gammas: Sequence[float] | None = None, start: float = 2.0, span: float = 4.0):
        super().__init__()
        if gammas is None:
            gammas = [1 - 2 ** -(start + span * h / heads) for h in range(heads)]
            given = f"start={start} and span={span}"
        else:
            given = f"gammas={tuple(gammas)}"
        if len(gammas) != heads or any(not 0 < g <= 1 for g in gammas):
            raise OptionError(
                f"{self.name}: a decay gamma lies above 0 and is at most 1 (no decay), one for each of {heads} heads; "
                f"given {given}."
            )
        self.register_buffer("rates", torch.tensor([math.log(g) for g in gammas]), persistent=False)

    def line(self, size: int) -> Float[Tensor, "h n n"]:
        """log gamma^|i - j| along one axis of this many places."""
        steps = torch.arange(size, device=self.rates.device)
        return self.rates[:, None, None] * (steps[:, None] - steps).abs()

    def forward(self, grid: Sequence[int]) -> Float[Tensor, "h n n"]:
        """log D for all places of a grid, row by row."""
        decay = self.line(grid[0])
        for size in grid[1:]:
            outer, inner = decay[:, :, None, :, None], self.line(size)[:, None, :, None, :]
            decay = (outer + inner).flatten(3, 4).flatten(1, 2)
        return decay
