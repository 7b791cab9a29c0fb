"""One vector from the tokens at the front of a sequence."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.pooling.pools import Pool


class PairPool(Pool):
    """The mean of the first two tokens, the class token and the distillation token of a DeiT.

    Gong et al. 2021 (AST), arXiv:2104.01778, section 2.2; PaSST, arXiv:2110.05069.
    """

    name = "class_pair"
    papers = ("passt_hear",)
    prefix: ClassVar[int] = 2

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b c"]:
        return x.flatten(1, -2)[:, :2].mean(1)
