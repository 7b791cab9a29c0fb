"""Two convolutions under one learned gate: local features beside attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class LocalEnhancement(TokenMixer):
    """sigmoid(g) conv(act(conv(x))) with a learned number g: `(b, *grid, c)` to the same shape.

    CoSwin's local feature enhancement module: Khadka et al. 2025, arXiv:2509.08959, in the shape of the
    authors' code. Outside the grid, and at padding of the input, tokens count as zero. Cost: 2 tokens kernel^rank c^2
    ratio multiply-adds.

    Args:
        dim: channels.
        ratio: channels between the convolutions, per channel.
        kernel: side of both convolutions; odd.
        act: activation between them.
        gate: the first value of g.
        grid: only its rank counts.
    """

    name = "local_enhancement"
    papers = ("coswin",)
    padding = False  # the second convolution sees what the first made of it

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 1.1,
        kernel: int = 3,
        act: Spec = Spec("relu"),
        gate: float = 0.5,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        hidden, rank = int(dim * ratio), len(grid)
        shape = {"kernel": kernel, "stride": 1, "padding": kernel // 2, "rank": rank, "what": self.name}
        self.widen = StridedConv(dim, hidden, std=(kernel**rank * dim) ** -0.5, **shape)
        self.act = build(act, "act")
        self.narrow = StridedConv(hidden, dim, std=(kernel**rank * hidden) ** -0.5, **shape)
        self.gate = nn.Parameter(torch.tensor(float(gate)))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        return self.gate.sigmoid() * self.narrow(self.act(self.widen(x)))
