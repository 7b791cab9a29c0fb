"""An MLP whose hidden channels look at their neighbours, beside themselves."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.feedforward.leff import LeFF
from anyformer.layers.feedforward.mlp import activated


class LocalMLP(LeFF):
    """W2 (h + DW(h)) with h = act(W1 x): widen, add a depthwise convolution, narrow. `(b, *grid, c)` to the same.

    The feed-forward network of RMT's authors (Fan et al. 2023, arXiv:2309.11523); in `LeFF` and `MixFFN` the hidden
    channels see themselves through the convolution alone. Outside the grid, and at padding, hidden tokens count as
    zero. Cost: tokens (2 c hidden + hidden kernel^rank) multiply-adds.

    Arguments and errors as `LeFF`'s; the activation is before the convolution alone.
    """

    name = "local_mlp"
    papers = ("rmt",)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        h = activated(self.up, self.act, x)
        return self.down(h + self.depthwise(h, segments))
