"""A channel mixer whose two layers are convolutions: each token with its nearest neighbours."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import CONVOLUTIONS
from anyformer.layers.feedforward.neighbours import NeighbourMLP


class ConvMLP(NeighbourMLP):
    """out_act(K2 * act(K1 * x)): an MLP with a convolution over the grid in place of each linear layer.

    A transition of the Universal Transformer (Dehghani et al. 2018, arXiv:1807.03819, section 2.1). Outside the grid,
    and at padding, tokens count as zero in both layers. Cost: 2 kernel^rank c hidden multiply-adds a token.

    Args:
        dim: channels.
        ratio, hidden: hidden channels per channel, or how many.
        kernel: tokens along each axis that a filter covers; odd.
        act: activation between the layers.
        out_act: activation behind them, e.g. Spec("relu") as some have it.
        grid: only its rank counts.

    Raises:
        OptionError: an even kernel.
    """

    name = "conv_mlp"
    papers = ("universal_transformer",)

    def __init__(self, dim: int, *, act: Spec = Spec("relu"), out_act: Spec | None = None, **options: Any):
        super().__init__(dim, act=act, **options)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise OptionError(
                f"conv_mlp.kernel is odd, so that as many tokens lie before as after; given {self.kernel}."
            )
        self.up = Convolution(dim, self.hidden, self.kernel, self.rank)
        self.down = Convolution(self.hidden, dim, self.kernel, self.rank)
        self.out_act = build(out_act, "act") if out_act is not None else None

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None
    ) -> Float[Tensor, "b *grid c"]:
        y = self.down(self.act(self.up(x, segments)), segments)
        return y if self.out_act is None else self.out_act(y)


class Convolution(nn.Module):
    """A convolution of channels-last tokens that keeps their grid."""

    def __init__(self, dim: int, out: int, kernel: int, rank: int):
        super().__init__()
        self.weight = nn.Parameter(trunc_normal(torch.empty(out, dim, *[kernel] * rank)))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None) -> Float[Tensor, "b *grid d"]:
        x = x if segments is None else segments.zero(x)
        half = self.weight.shape[-1] // 2
        return CONVOLUTIONS[x.dim() - 2](x.movedim(-1, 1), self.weight, self.bias, 1, half).movedim(1, -1)
