"""Attention beside which a convolution of the tokens themselves, not of the values, tells them their neighbours."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.segments import Segments
from anyformer.layers.attention.lepe import LePEAttention


class LinearLePEAttention(LePEAttention):
    """W (softmax(q k^T / sqrt(d)) v + DW(P x)): `LePEAttention` whose convolution sees a linear map of the tokens.

    The last stage of SG-Former: Ren et al. 2023, arXiv:2308.12216, as the authors' code has it.
    Cost: 2 tokens^2 c + 5 tokens c^2 + tokens c local^rank multiply-adds. Arguments and errors as `LePEAttention`'s.
    """

    name = "linear_lepe_attention"
    papers = ("sg_former",)
    tiny = {"heads": 2}

    def __init__(self, dim: int, *, heads: int, **options: Any):
        super().__init__(dim, heads=heads, **options)
        self.position = init.linear(dim, dim)

    def near(
        self, v: Float[Tensor, "b h n d"], x: Float[Tensor, "b *grid c"], segments: Segments | None
    ) -> Float[Tensor, "b *grid c"]:
        return self.local(self.position(x), segments)
