"""Between stages: means of neighbouring tokens, with or without a linear map."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.pooling.mixing import AVERAGES

POOLS = {**AVERAGES, 3: nn.functional.avg_pool3d}


class AverageDownsample(Part):
    """The means of 2^rank neighbours, as wide as they were, or mapped to `dim` and normed where there is a norm.

    `(b, *grid, inputs)` to `(b, *ceil(grid / 2), dim)`; at the end of an odd side the mean is of those that are there.
    Li et al. 2022 (Next-ViT), arXiv:2207.05501, section 3.5.

    Args:
        inputs, dim: channels in and out.
        norm: norm after the linear map; None leaves out both, for a first block that brings the channels to `dim`.
        rank: axes of the grid.
    """

    name = "average"
    kind = "downsample"
    papers = ("medvit_v2",)
    tiny = {"inputs": 8}

    def __init__(self, inputs: int, dim: int, *, norm: Spec | None = Spec("batchnorm"), rank: int = 2):
        super().__init__()
        self.average = POOLS[rank]
        self.project = init.linear(inputs, dim, bias=False) if norm is not None else None
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return tuple(math.ceil(s / 2) for s in size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *half c"]:
        x = self.average(x.movedim(-1, 1), 2, 2, ceil_mode=True).movedim(1, -1)
        return x if self.project is None or self.norm is None else self.norm(self.project(x))
