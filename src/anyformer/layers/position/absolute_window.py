"""Positions inside a window and positions of the whole image, each with a table of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.init import trunc_normal
from anyformer.core.part import Part


class AbsoluteWindowPosition(Part):
    """A table of one window, repeated, plus a coarse table of the image, resized: added to tokens `(b, h, w, c)`.

    Models with windows learn positions that repeat from window to window; resized as a whole, these no longer fit the
    windows. Bolya et al. 2023 ("Window attention is bugged"), arXiv:2311.05613, section 3, "absolute win". Any grid.

    Args:
        dim: channels.
        window: side of a window in tokens.
        coarse: side of the image's table.
    """

    name = "absolute_window"
    kind = "position"
    papers = ("turbovit",)
    tiny = {"window": 2, "coarse": 3}

    def __init__(self, dim: int, *, window: int = 8, coarse: int = 14):
        super().__init__()
        self.inside = nn.Parameter(trunc_normal(torch.empty(dim, window, window), 0.02))
        self.image = nn.Parameter(trunc_normal(torch.empty(dim, coarse, coarse), 0.02))

    def forward(
        self, x: Float[Tensor, "b h w c"], positions: Int[Tensor, "b n"] | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b h w c"]:
        window = self.inside.shape[-1]
        repeats = [math.ceil(size / window) for size in x.shape[1:-1]]
        whole = tuple(n * window for n in repeats)
        image = nn.functional.interpolate(self.image[None].float(), size=whole, mode="bicubic", antialias=True)[0]
        codes = image.to(x.dtype) + self.inside.tile(1, *repeats)
        return x + codes[:, : x.shape[1], : x.shape[2]].movedim(0, -1)
