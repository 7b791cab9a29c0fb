"""A block whose output is cooled: what the residual stream has summed up passes a convolution and a norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import PreNorm
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class Cooled(PreNorm):
    """norm(conv(y)) of what a pre-norm block gives, y, with no residual around it.

    The activation cooling layer (ACL), which stops activations from growing along the residual stream. Wang et al. 2023
    (CrossFormer++), arXiv:2303.06908, section 4.2. Cost: that of the block and 9 tokens c multiply-adds on a map.

    Args:
        dim: channels.
        cooling: the convolution, a token mixer.
        norm, grid, causal and the rest: as `TwoBranch`'s; `norm` is also the last norm.

    Raises:
        FitError: in a decoder, as the convolution looks at neighbours on both sides.
    """

    name = "cooled"
    papers = ("crossformer",)

    def __init__(
        self,
        dim: int,
        *,
        cooling: Spec = Spec("depthwise", kernel=3, std=0.19),
        norm: Spec = Spec("layernorm"),
        grid: Sequence[int | None] | None = None,
        causal: bool = False,
        **options: Any,
    ):
        if causal:
            raise FitError(
                "cooled looks at a token's neighbours on both sides and does not fit a decoder: take prenorm."
            )
        super().__init__(dim, norm=norm, grid=grid, **options)
        self.cooling = build(cooling, "mixer", dim=dim, grid=grid)
        self.cooling_norm = build(norm, "norm", dim=dim)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, *others: Any
    ) -> Float[Tensor, "b *grid c"]:
        return self.cooling_norm(self.cooling(super().forward(x, segments, *others), segments))
