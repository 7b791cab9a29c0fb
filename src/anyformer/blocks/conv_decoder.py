"""A decode head of a single convolution: what a linear probe is to a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.decode import DecodeHead, resized
from anyformer.core.errors import OptionError
from anyformer.layers.embedding.patch import StridedConv


class ConvDecoder(DecodeHead):
    """All maps at the finest one's resolution, side by side, and one convolution of them to the scores.

    Muszynski et al. 2024, arXiv:2406.19888, section 3: one layer on the encoder of a foundation model. Cost: finest
    tokens sum(dims) num_classes kernel^rank multiply-adds.

    Args:
        dims: channels of the maps, finest first.
        num_classes: channels of the output.
        kernel: side of the convolution; odd.
        rank: axes of the grids.

    Raises:
        OptionError: an even kernel, which would change the grid.
    """

    name = "conv_decoder"
    papers = ("geo_biomass",)
    tiny = {"dims": (6, 4)}

    def __init__(self, dims: Sequence[int], *, num_classes: int = 1, kernel: int = 3, rank: int = 2):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise OptionError(f"{self.name}.kernel is odd, so that the grid stays as it is; given {kernel}.")
        self.conv = StridedConv(
            sum(dims), num_classes, kernel=kernel, stride=1, padding=kernel // 2, rank=rank, what=self.name
        )

    def forward(self, maps: Sequence[Float[Tensor, "b c *grid"]]) -> Float[Tensor, "b classes *grid"]:
        size = maps[0].shape[2:]
        joined = torch.cat([maps[0], *(resized(m, size) for m in maps[1:])], 1)
        return self.conv(joined.movedim(1, -1)).movedim(-1, 1)
