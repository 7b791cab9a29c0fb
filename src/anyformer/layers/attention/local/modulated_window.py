"""Window attention whose windows carry a learned map of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.layers.attention.local.tiling import Tiling, tile
from anyformer.layers.attention.local.window import WindowAttention


class ModulatedWindowAttention(WindowAttention):
    """Window attention over tokens to which every window adds the same learned map, `(window^rank, c)`.

    The multi-scale restoration modulator: Wang et al. 2021 (Uformer), arXiv:2106.03106, section 3.3. The map lies where
    the window lies after its shift; a map of zeros is `WindowAttention`. Cost and arguments as `WindowAttention`'s;
    the map adds window^rank c parameters. Its first values are standard normal, as the authors'.

    Errors: those of `WindowAttention` (`SizeError` for windows that do not fit, `OptionError` for heads).
    """

    name = "modulated_window"
    papers = ("uformer",)
    ranks = (1, 2, 3)
    tiny = {"heads": 2, "window": 2, "shift": "half"}

    def __init__(self, dim: int, **options: Any):
        super().__init__(dim, **options)
        self.modulator = nn.Parameter(torch.randn(math.prod(self.window), dim))

    def gather(self, x: Float[Tensor, "b *grid c"], tiling: Tiling) -> Float[Tensor, "b tiles t c"]:
        return tile(x, tiling) + self.modulator
