"""A channel mixer that also looks at each token's neighbours: an MLP with a depthwise convolution inside."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import ChannelMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.feedforward.mlp import activated


class LeFF(ChannelMixer):
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
    per_token = False

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        hidden: int | None = None,
        kernel: int = 3,
        act: Spec = Spec("gelu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        hidden = int(dim * ratio) if hidden is None else hidden
        self.up = init.linear(dim, hidden)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = DepthwiseConv(hidden, kernel=kernel, std=kernel ** (-len(grid) / 2), grid=grid)
        self.act_local = build(act, "act")
        self.down = init.linear(hidden, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.down(self.act_local(self.depthwise(activated(self.up, self.act, x), segments)))
