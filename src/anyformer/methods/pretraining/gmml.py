"""Group masked corruption: random blocks of connected pixels become noise, zeros, or content from elsewhere.

Atito et al. 2022, arXiv:2205.14986, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core.errors import OptionError, SizeError
from anyformer.methods.pretraining.masking import check_ratio

Fill = Literal["noise", "zeros", "copy"]
FILLS = ("noise", "zeros", "copy")
Block = tuple[int, int, int, int, int, int]
"""Row, column, height and width of a block, and row and column of the place that it is copied from."""


def corrupt(
    image: Float[Tensor, "c h w"],
    random: np.random.RandomState,
    *,
    ratio: float = 0.7,
    align: int = 16,
    fills: Sequence[Fill] = ("noise",),
    largest: float = 0.3,
    other: Float[Tensor, "c h w"] | None = None,
) -> tuple[Float[Tensor, "c h w"], Bool[Tensor, "h w"]]:
    """A corrupted copy of an image, and where it was corrupted.

    Args:
        image: `(c, h, w)`.
        random: numpy's legacy generator; its draws, in their order, are those of the authors' code.
        ratio: most of the image that is to be corrupted; the share asked for is uniform between min(0.5, ratio) and it,
            and the last block goes beyond it.
        align: blocks begin at, and are as large as, multiples of so many pixels: the patch of the encoder.
        fills: one is drawn for the image: "noise" (normal), "zeros", or "copy" (from another place of the image).
        largest: side of the largest block as a share of the image's.
        other: take the blocks from this image instead.

    Raises:
        OptionError: a ratio outside (0, 1), an unknown fill.
        SizeError: blocks that are larger than the image or smaller than `align`.
    """
    check_ratio(ratio)
    unknown = [fill for fill in fills if fill not in FILLS]
    if unknown or not fills:
        raise OptionError(f"a corruption is one of {', '.join(FILLS)}; given {unknown[0] if unknown else 'none'!r}.")
    size = (image.shape[1], image.shape[2])
    check_blocks(size, align, largest)
    wanted = random.uniform(min(0.5, ratio), ratio) * size[0] * size[1]
    fill = random.choice(list(fills))
    mask = np.zeros(size, dtype=bool)
    copied, moved = other is None and fill == "copy", image.clone()
    while mask.sum() < wanted:
        row, column, height, width, top, left = draw_block(random, size, align, largest, copied=copied)
        if copied:
            moved[:, row : row + height, column : column + width] = moved[
                :, top : top + height, left : left + width
            ].clone()
        mask[row : row + height, column : column + width] = True
    where = torch.from_numpy(mask)
    if copied:
        return moved, where
    source = other if other is not None else torch.zeros_like(image)
    if other is None and fill == "noise":
        source = torch.from_numpy(random.standard_normal(image.shape)).to(image)
    return torch.where(where, source, image), where


def draw_block(
    random: np.random.RandomState, size: tuple[int, int], align: int, largest: float, *, copied: bool
) -> Block:
    """The next block: inside the image, on the raster of `align`."""
    first = [int(random.randint(0, side - align)) // align * align if side > align else 0 for side in size]
    spans = []
    for side, start in zip(size, first, strict=True):
        most = int(side * largest)
        span = min(int(random.randint(align, most)) if most > align else align, side - start)
        spans.append(round(span / align) * align)
    origin = [0, 0]
    if copied:
        for axis, (side, span) in enumerate(zip(size, spans, strict=True)):
            origin[axis] = int(random.randint(0, side - span)) // align * align if side > span else 0
    return first[0], first[1], spans[0], spans[1], origin[0], origin[1]


def check_blocks(size: tuple[int, int], align: int, largest: float) -> None:
    """Raise `SizeError` where no block of this size fits into the image."""
    shown = f"{size[0]}x{size[1]}"
    if align < 1 or align > min(size):
        raise SizeError(f"blocks are aligned to 1 to {min(size)} pixels in an image of {shown}; given align={align}.")
    if not 0 < largest <= 1:
        raise SizeError(f"the largest block is a share of the image of {shown}, above 0, at most 1; given {largest}.")
    if int(min(size) * largest) < align:
        raise SizeError(
            f"the largest block, {largest:g} of an image of {shown}, is smaller than align={align} pixels: "
            f"take largest={align / min(size):g} or more."
        )


METHODS = {"corrupt": corrupt}
