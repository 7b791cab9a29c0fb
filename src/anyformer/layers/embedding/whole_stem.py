"""A stem that takes only images which all strides of the model divide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError, SizeError
from anyformer.layers.embedding.conv_stem import ConvStem


class WholeStem(ConvStem):
    """`ConvStem` for a model that neither pads nor drops a row anywhere: other images are refused at the door.

    For models whose last map has a bias for every place, such as EfficientFormer (arXiv:2206.01191): a map that was
    rounded up on the way would get biases of other places.

    Args:
        dim, options: as `ConvStem`'s.
        multiple: sides of images are multiples of this, the product of the strides.

    Raises:
        OptionError: a multiple below 1.
        SizeError: another image.
    """

    name = "whole_stem"
    papers = ("efficientformer",)
    tiny = {"in_channels": 3, "multiple": 2}

    def __init__(self, dim: int, *, multiple: int = 32, **options: Any):
        super().__init__(dim, **options)
        self.what = options.get("what", self.name)
        if multiple < 1:
            raise OptionError(f"{self.name}.multiple is a number of pixels, 1 or more; given {multiple}.")
        self.multiple = multiple

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size. Raises `SizeError` for one that `multiple` does not divide."""
        if any(side % self.multiple for side in size):
            given, near = (
                "x".join(map(str, sides))
                for sides in (size, [max(self.multiple, round(s / self.multiple) * self.multiple) for s in size])
            )
            raise SizeError(
                f"{self.what}: the strides do not divide an image of {given}; sizes that fit are multiples of "
                f"{self.multiple}, the nearest {near}: resize or crop the images."
            )
        return super().grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        self.grid(images.shape[2:])
        return super().forward(images)
