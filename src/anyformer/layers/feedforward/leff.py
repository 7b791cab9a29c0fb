"""A channel mixer that also looks at each token's neighbours: an MLP with a depthwise convolution inside."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.mlp import activated
from anyformer.layers.feedforward.neighbours import DepthwiseMLP


class LeFF(DepthwiseMLP):
    """W2 act(DW(act(W1 x))): widen, convolve each hidden channel over the grid, narrow. `(b, *grid, c)` to the same.

    The locally-enhanced feed-forward network of Wang et al. 2021 (Uformer), arXiv:2106.03106, section 3.2. Outside the
    grid, and at padding, hidden tokens count as zero. Cost: tokens (2 c hidden + hidden kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        kernel: tokens along each axis that a filter covers; odd.
        act: activation before and after the convolution.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel.
    """

    name = "leff"
    papers = ("uformer",)

    def __init__(self, dim: int, *, act: Spec = Spec("gelu"), **options: Any):
        super().__init__(dim, act=act, **options)
        self.act_local = build(act, "act")

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.down(self.act_local(self.depthwise(activated(self.up, self.act, x), segments)))
