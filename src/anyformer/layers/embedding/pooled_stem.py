"""ResNet's stems: convolutions, then pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.spec import Spec
from anyformer.layers.embedding.conv_stem import NORM, ConvStem
from anyformer.layers.pooling.mixing import AVERAGES

POOLS = {1: nn.functional.max_pool1d, 2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}


class PooledStem(ConvStem):
    """Convolutions, then pooling that halves the grid: images to `(b, *size / 4, dim)` with the defaults.

    He et al. 2015, arXiv:1512.03385, table 1: one 7x7 convolution, then the largest of 3x3. CLIP (Radford et al. 2021,
    arXiv:2103.00020, section 2.4): three 3x3 convolutions, then means of 2x2.

    Args:
        dim: channels of a token.
        widths, kernels, strides, bias: as `ConvStem`'s.
        norm, act: after every convolution.
        pool: "max" of 3x3, or "mean" of 2x2, with stride 2.
        **options: `ConvStem`'s.
    """

    name = "pooled_stem"
    kind = "embed"
    papers = ("group_detr",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        widths: Sequence[float] = (),
        kernels: int | Sequence[int] = 7,
        strides: Sequence[int] = (2,),
        norm: Spec = NORM,
        act: Spec = Spec("relu"),
        bias: bool = False,
        pool: Literal["max", "mean"] = "max",
        **options: Any,
    ):
        super().__init__(
            dim, widths=widths, kernels=kernels, strides=strides, norm=norm, act=act, out_norm=norm, out_act=act,
            bias=bias, **options,
        )  # fmt: skip
        self.pool = pool

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return tuple((s + (self.pool == "max")) // 2 for s in super().grid(size))

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = super().forward(images).movedim(-1, 1)
        pooled = POOLS[x.dim() - 2](x, 3, 2, 1) if self.pool == "max" else AVERAGES[x.dim() - 2](x, 2)
        return pooled.movedim(1, -1)
