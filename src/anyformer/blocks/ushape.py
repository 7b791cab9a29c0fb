"""The U-shaped skeleton: down a pyramid and up again, with the way down joined in; an output for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.pyramid import Pyramid
from anyformer.blocks.stack import Stack
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec


class UShape(ImageModel):
    """Images `(b, in_channels, *size)` to maps `(b, num_classes, *size)`.

    Stages lead down as in `Pyramid`; on the way up a token becomes 2^rank finer ones (a linear map), the stage's
    output of the way down is joined by a linear map, and blocks follow. Ronneberger et al. 2015, arXiv:1505.04597,
    with blocks of tokens.

    Args:
        stages: as `Pyramid`'s; the way up mirrors them.
        embed: from image to the first stage's tokens.
        up_depth: blocks of each stage on the way up (None: as many as on the way down).
        image_size, in_channels, num_classes, drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "ushape"

    @chooses_start
    def __init__(
        self,
        *,
        stages: Sequence[Spec],
        embed: Spec = Spec("patch", size=4),
        up_depth: int | None = None,
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        num_classes: int = 2,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        if num_classes < 1:
            raise OptionError(f"a U-shape gives at least one channel for every pixel; given num_classes={num_classes}.")
        self.image_size, self.in_channels = sides(image_size), in_channels
        rank = len(self.image_size)
        self.down = Pyramid(
            stages=stages,
            embed=embed,
            norm=None,
            head=Spec("classifier"),
            image_size=image_size,
            in_channels=in_channels,
            num_classes=0,
            drop_path=drop_path,
            dropout=dropout,
            init=init,
        )
        levels: list[Any] = list(self.down.stages)
        self.expand = nn.ModuleList(linear(deep.dim, above.dim * 2**rank) for above, deep in pairwise(levels))
        self.join = nn.ModuleList(linear(2 * level.dim, level.dim) for level in levels[:-1])
        self.up = nn.ModuleList(
            Stack(
                spec.options["block"],
                spec.options["depth"] if up_depth is None else up_depth,
                dim=level.dim,
                grid=level.grid,
                dropout=dropout,
            )
            for spec, level in zip(list(stages)[:-1], levels[:-1], strict=True)
        )
        self.head = linear(levels[0].dim, num_classes)

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens of the finest grid after the way up."""
        *skips, x = (m.movedim(1, -1) for m in self.down.features(images))
        for expand, join, blocks, skip in reversed(list(zip(self.expand, self.join, self.up, skips, strict=True))):
            x = finer(expand(x), skip.shape[1:-1])
            x = blocks(join(torch.cat([x, skip], -1)))
        return x

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps of the way down, finest first."""
        return self.down.features(images, layers)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes *size"]:
        maps = channels_first(self.head(self.tokens(images)))
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(self.image_size)]
        if maps.shape[2:] == images.shape[2:]:
            return maps
        return nn.functional.interpolate(maps, size=images.shape[2:], mode=mode)


def finer(x: Float[Tensor, "b *grid wide"], size: Sequence[int]) -> Float[Tensor, "b *finer c"]:
    """Every token as 2^rank finer ones, cut to `size`: the inverse of patch merging."""
    grid = x.shape[1:-1]
    rank = len(grid)
    x = x.unflatten(-1, (*[2] * rank, -1))
    order = [0, *(axis for i in range(rank) for axis in (1 + i, 1 + rank + i)), 1 + 2 * rank]
    x = x.permute(order).reshape(len(x), *(2 * g for g in grid), -1)
    return x[(slice(None), *(slice(s) for s in size))]
