"""Convolutions in groups of channels, as heads, and a projection that joins them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.init import trunc_normal
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import split_dim
from anyformer.layers.embedding.patch import CONVOLUTIONS


class MultiHeadConvolution(TokenMixer):
    """W act(norm(conv(x))), the convolution in groups of channels, one for each head: `(b, *grid, c)` to the same.

    Multi-head convolutional attention of Li et al. 2022 (Next-ViT), arXiv:2207.05501, equations 2 and 3. Outside the
    grid, and at padding, tokens count as zero. Cost: tokens (kernel^rank c / heads + c) c multiply-adds.

    Args:
        dim: channels.
        heads: groups of the convolution.
        norm, act: between convolution and projection.
        grid: only its rank counts.

    Raises:
        OptionError: heads that do not divide the channels.
    """

    name = "head_conv"
    papers = ("medvit_v2",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(
            trunc_normal(torch.empty(dim, split_dim(dim, heads, None, self.name), *[3] * len(grid)))
        )
        self.norm = build(norm, "norm", dim=dim)
        self.act = build(act, "act")
        self.out = init.linear(dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        y = CONVOLUTIONS[x.dim() - 2](x.movedim(-1, 1), self.weight, None, 1, 1, 1, self.heads).movedim(1, -1)
        return self.out(self.act(self.norm(y)))
