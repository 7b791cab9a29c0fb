"""No norm, where a block has a place for one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import Norm


class NoNorm(Norm):
    """y = x: for blocks whose branches start from the stream as it is (EfficientFormer's early ones).

    Li et al. 2022 (EfficientFormer), arXiv:2206.01191, section 4.1. No parameters, no operations.
    """

    name = "no_norm"
    papers = ("efficientformer",)

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return x
