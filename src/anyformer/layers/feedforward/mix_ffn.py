"""A channel mixer that also tells positions: a depthwise convolution before an MLP's activation."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.feedforward.neighbours import DepthwiseMLP


class MixFFN(DepthwiseMLP):
    """W2 act(norm(DW(W1 x))): widen, convolve each hidden channel over the grid, narrow. `(b, *grid, c)` to the same.

    The zeros outside the grid tell tokens where they are, so that a model needs no other positions. Xie et al. 2021
    (SegFormer), arXiv:2105.15203, equation 3; with a norm and over volumes: Perera et al. 2024 (SegFormer3D),
    arXiv:2404.10156, section 3.1. At padding, hidden tokens count as zero.
    Cost: tokens (2 c hidden + hidden kernel^rank) multiply-adds.

    Args:
        dim: channels.
        ratio: hidden channels per channel.
        hidden: hidden channels, instead of `ratio`.
        kernel: tokens along each axis that a filter covers; odd.
        norm: norm of the convolved hidden tokens (SegFormer3D: Spec("batchnorm")).
        act: activation after the convolution.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel.
    """

    name = "mix_ffn"
    papers = ("segformer3d",)

    def __init__(self, dim: int, *, norm: Spec | None = None, **options: Any):
        super().__init__(dim, **options)
        self.norm = build(norm, "norm", dim=self.hidden) if norm is not None else None

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        y = self.depthwise(self.up(x), segments)
        return self.down(self.act(y if self.norm is None else self.norm(y)))
