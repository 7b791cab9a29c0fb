"""ResNet's stem: a wide convolution, then max pooling."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv

POOLS = {1: nn.functional.max_pool1d, 2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}


class PooledStem(Part):
    """Convolution of stride 2, norm, activation, 3x3 max pooling of stride 2: images to `(b, *size / 4, dim)`.

    He et al. 2015, arXiv:1512.03385, table 1.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        kernel: side of the convolution; odd.
        norm, act: what follows it.
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "pooled_stem"
    kind = "embed"
    papers = ("group_detr",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        kernel: int = 7,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        std = (2 / (dim * kernel**rank)) ** 0.5
        self.conv = StridedConv(
            in_channels, dim, kernel=kernel, stride=2, padding=kernel // 2, rest="drop", bias=False, std=std, rank=rank,
            what=what,
        )  # fmt: skip
        self.norm = build(norm, "norm", dim=dim)
        self.act = build(act, "act")

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return tuple((s + 1) // 2 for s in self.conv.grid(size))

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = self.act(self.norm(self.conv(images.movedim(1, -1))))
        return POOLS[x.dim() - 2](x.movedim(-1, 1), 3, 2, 1).movedim(1, -1)
