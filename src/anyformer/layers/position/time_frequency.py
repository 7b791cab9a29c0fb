"""Positions of a spectrogram: one learned vector per band, one per time, added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import PUBLISHED, published, trunc_normal
from anyformer.core.part import Part


class TimeFrequencyPosition(Part):
    """A learned vector per row (frequency) and one per column (time), both added to every token of a spectrogram.

    p(f, t) = p_f + p_t, so that any piece of a clip has positions without resizing: a shorter one takes the first
    times, in training times from a random start. Koutini et al. 2021 (PaSST), arXiv:2110.05069, section 2.1.

    Args:
        dim: channels.
        grid: rows and columns that the tables are made for.
        prefix: tokens before the grid, with a vector each.
        times: columns of the time table (None: those of the grid).
        std: deviation of the first values; None: 0.02, or with `init="fan_in"` about that of what they are added to.

    Raises:
        SizeError: a spectrogram with other rows, or more columns than the table.
    """

    name = "time_frequency"
    kind = "position"
    papers = ("passt_hear",)
    tiny = {"grid": (4, 6)}

    def __init__(
        self, dim: int, *, grid: Sequence[int], prefix: int = 0, times: int | None = None, std: float | None = None
    ):
        super().__init__()
        if len(grid) != 2:
            raise SizeError(f"time_frequency serves grids of frequency and time; given {len(grid)} axes.")
        self.grid, self.prefix = tuple(grid), prefix
        std = (PUBLISHED if published() else 0.5) if std is None else std
        columns = grid[1] if times is None else times
        self.front = nn.Parameter(trunc_normal(torch.empty(prefix, dim), std)) if prefix else None
        self.frequency = nn.Parameter(trunc_normal(torch.empty(grid[0], dim), std))
        self.time = nn.Parameter(trunc_normal(torch.empty(columns, dim), std))

    def forward(
        self, x: Float[Tensor, "b *grid c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """Add positions to `(b, f, t, c)`, or to `(b, prefix + f t, c)` with its `grid`."""
        rows, columns = tuple(grid) or tuple(x.shape[1:-1])
        if rows != len(self.frequency) or columns > len(self.time):
            raise SizeError(
                f"this model is built for spectrograms of {len(self.frequency)} rows and up to {len(self.time)} "
                f"columns of patches; this one has {rows} and {columns}: cut longer clips into windows (SoundEmbedding "
                "does), or build the model with a larger image_size."
            )
        start = (
            int(torch.randint(len(self.time) - columns + 1, ())) if self.training and columns < len(self.time) else 0
        )
        table = self.frequency[:, None] + self.time[start : start + columns]
        if x.dim() == 4:
            return x + table
        table = table.flatten(0, 1)
        return x + (table if self.front is None else torch.cat([self.front, table]))
