"""A strided convolution inside every patch of an image, which sees nothing of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError, SizeError
from anyformer.layers.attention.local.tiling import plan, tile, untile
from anyformer.layers.embedding.patch import PatchEmbedding


class PatchwiseConv(PatchEmbedding):
    """The image in patches of `within` pixels, each convolved alone with zeros around it: `(b, *size / stride, dim)`.

    Visual words of TNT: Han et al. 2021, arXiv:2103.00112, section 2.2, as the authors' code has them.

    Args:
        dim: channels of a word.
        within: side of a patch.
        size, stride, padding: of the convolution; the stride divides the patch.
        options: the others of `PatchEmbedding`.

    Raises:
        OptionError: a stride that does not divide the patch.
        SizeError: an image that patches do not divide.
    """

    name = "patchwise_conv"
    papers = ("tnt",)
    tiny = {"in_channels": 3, "within": 8}

    def __init__(self, dim: int, *, within: int = 16, size: int = 7, stride: int = 4, padding: int = 3, **options: Any):
        if stride < 1 or within % stride or (within + 2 * padding - size) // stride + 1 != within // stride:
            raise OptionError(
                f"{self.name}: words divide their patch, so the stride divides within={within} and a convolution makes "
                f"within / stride words a side; given stride={stride}, size={size}, padding={padding}."
            )
        super().__init__(dim, size=size, stride=stride, padding=padding, **options)
        self.within, self.words = within, within // stride

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of words of an image of this size. Raises `SizeError` where patches do not divide it."""
        check_patches(size, self.within)
        return tuple(s // self.within * self.words for s in size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        size = tuple(images.shape[2:])
        grid, rank = self.grid(size), len(size)
        cut = plan(size, (self.within,) * rank, (0,) * rank)
        patches = tile(images.movedim(1, -1), cut).flatten(0, 1).unflatten(1, (self.within,) * rank)
        words = super().forward(patches.movedim(-1, 1)).flatten(1, -2).unflatten(0, (len(images), -1))
        return untile(words, plan(grid, (self.words,) * rank, (0,) * rank))


def check_patches(size: Sequence[int], patch: int) -> None:
    """Raise `SizeError` where patches do not divide an image; the message names sizes that fit."""
    if any(s % patch or s < patch for s in size):
        near = [max(patch, round(s / patch) * patch) for s in size]
        raise SizeError(
            f"an image of {'x'.join(map(str, size))} is not made of whole patches of {patch}; sizes that fit are "
            f"multiples of {patch}, the nearest {'x'.join(map(str, near))}."
        )
