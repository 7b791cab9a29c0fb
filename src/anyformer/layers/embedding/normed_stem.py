"""A stem of convolutions whose tokens pass one more norm."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.layers.embedding.conv_stem import ConvStem


class NormedStem(ConvStem):
    """`ConvStem`, and a norm of its tokens behind all: images `(b, channels, *size)` to tokens `(b, *grid, dim)`.

    SG-Former (arXiv:2308.12216) norms maps between its convolutions and tokens behind them.

    Args:
        dim: channels of a token.
        token_norm: norm of the tokens.
        options: the others of `ConvStem`.
    """

    name = "normed_stem"
    papers = ("sg_former",)

    def __init__(self, dim: int, *, token_norm: Spec = Spec("layernorm"), **options: Any):
        super().__init__(dim, **options)
        self.token_norm = build(token_norm, "norm", dim=dim)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        return self.token_norm(super().forward(images))
