"""From images to tokens by three convolutions with ReLU between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class ThreeConvStem(Part):
    """A 7x7 and two 3x3 convolutions of a quarter, half and all channels: `(b, channels, *size)` to `(b, *grid, dim)`.

    The stem of CrossViT's "dagger" models: Chen et al. 2021, arXiv:2103.14899, section 4.1. Strides (4, 3, 1) with
    paddings (3, 0, 1) stand for patches of 12 pixels, (4, 2, 2) with (3, 1, 1) for patches of 16.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        strides, paddings: of the three convolutions.
        act: activation between them.
        rank: axes of the image.
        what: who asks, for messages.

    Raises:
        SizeError: an image that the strides together do not divide.
    """

    name = "three_conv_stem"
    kind = "embed"
    papers = ("crossvit",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        strides: tuple[int, int, int] = (4, 2, 2),
        paddings: tuple[int, int, int] = (3, 1, 1),
        act: Spec = Spec("relu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        widths = (in_channels, dim // 4, dim // 2, dim)
        self.layers = nn.ModuleList(
            StridedConv(a, b, kernel=k, stride=s, padding=p, rest="drop", rank=rank, what=what)
            for (a, b), k, s, p in zip(pairwise(widths), (7, 3, 3), strides, paddings, strict=True)
        )
        self.act = build(act, "act")
        self.stride, self.what = strides[0] * strides[1] * strides[2], what

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size. Raises `SizeError` where the strides do not divide it."""
        if any(s % self.stride or s < self.stride for s in size):
            raise SizeError(
                f"{self.what}: an image of {'x'.join(map(str, size))} is not made of whole patches of {self.stride}; "
                f"sizes that fit are multiples of {self.stride}."
            )
        return tuple(s // self.stride for s in size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        self.grid(images.shape[2:])
        first, second, third = self.layers
        x = self.act(first(images.movedim(1, -1)))
        return third(self.act(second(x)))
