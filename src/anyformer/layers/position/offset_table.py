"""Relative positions without a direction: one bias for offsets to either side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyformer.layers.position.window_bias import WindowBias, relative_offsets


class OffsetTable(WindowBias):
    """A learned bias for every offset inside the window whatever its sign, as many as the window has places.

    LeViT's attention bias: Graham et al. 2021, arXiv:2104.01136, section 4.4; starts at zero. A `RelativeTable` whose
    rows of mirrored offsets are one. TinyViT's windows, EfficientFormer's and FcaFormer's last maps have it.
    """

    name = "offset_table"
    papers = ("tiny_vit", "efficientformer", "fcaformer")
    tiny = {"heads": 2, "window": (3, 3)}
    mirror: Tensor

    def __init__(self, heads: int, window: Sequence[int]):
        super().__init__(window)
        self.table = nn.Parameter(torch.zeros(math.prod(self.window), heads))
        apart = relative_offsets(self.window).abs().long()
        places = torch.zeros(len(apart), dtype=torch.long)
        for axis, size in enumerate(self.window):
            places = places * size + apart[:, axis]
        self.register_buffer("mirror", places, persistent=False)

    def rows(self) -> Tensor:
        return self.table[self.mirror]
