"""An MLP whose hidden channels add their neighbours to themselves before the activation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.feedforward.mix_ffn import MixFFN


class SkipMixFFN(MixFFN):
    """W2 act(norm(h + DW(h))) with h = W1 x: widen, add a depthwise convolution, narrow. `(b, *grid, c)` to the same.

    The feed-forward network of SMT's authors (Lin et al. 2023, arXiv:2307.08579); in `MixFFN` the hidden channels see
    themselves through the convolution alone, in `LocalMLP` they are added behind the activation. At padding, hidden
    tokens count as zero for the convolution. Cost: tokens (2 c hidden + hidden kernel^rank) multiply-adds.

    Arguments and errors as `MixFFN`'s.
    """

    name = "skip_mix_ffn"
    papers = ("smt",)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        h = self.up(x)
        h = h + self.depthwise(h, segments)
        return self.down(self.act(h if self.norm is None else self.norm(h)))
