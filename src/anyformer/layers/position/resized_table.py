"""A table of biases for one window, resized to another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal
from anyformer.layers.position.window_bias import WindowBias


class ResizedTable(WindowBias):
    """A learned bias for every offset in a window of `side`, interpolated to the offsets of another window.

    As CoAtNet (Dai et al. 2021, arXiv:2106.04803) and MOAT (Yang et al. 2022, arXiv:2210.01820, section 2.3) take
    weights to other image sizes; for a window of `side` it is `RelativeTable`.

    Args:
        heads: heads of the attention.
        window: side of the window along each axis; one or two axes.
        side: of the window that the table is of, along each axis.

    Raises:
        OptionError: a window of three axes; a side below 1.
    """

    name = "resized_table"
    papers = ("moat",)
    tiny = {"heads": 2, "window": (3, 3), "side": 2}

    def __init__(self, heads: int, window: Sequence[int], *, side: int):
        super().__init__(window)
        if not 1 <= len(self.window) <= 2 or side < 1:
            raise OptionError(
                f"{self.name} is of windows of one or two axes and has a side of 1 or more; given a window of "
                f"{'x'.join(map(str, self.window))} and side={side}: take relative_table for other windows."
            )
        self.side = (2 * side - 1,) * len(self.window)
        self.table = nn.Parameter(trunc_normal(torch.empty((2 * side - 1) ** len(self.window), heads), 0.02))

    def rows(self) -> Float[Tensor, "rows heads"]:
        wanted = tuple(2 * w - 1 for w in self.window)
        if wanted == self.side:
            return self.table
        mode = "bilinear" if len(wanted) == 2 else "linear"
        table = self.table.t().unflatten(1, self.side)[None]
        return nn.functional.interpolate(table, size=wanted, mode=mode)[0].flatten(1).t()
