"""The U-shaped skeleton: down a pyramid and up again, with the way down joined in; an output for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.padding import Rest, check_multiple, fill
from anyformer.blocks.pyramid import Pyramid
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start
from anyformer.core.part import Part
from anyformer.core.spec import Spec, as_spec


class UpStage(Part):
    """Upsample, join the map of the way down, repeat a block: `(b, *grid, inputs)` to `(b, *finer, dim)`.

    Args:
        dim, depth: channels and blocks of the stage.
        block: the block, or blocks that alternate.
        upsample: from the coarser tokens to finer ones.
        skip: how the map of the way down joins.
        inputs, skip_dim: channels of what comes up, and of the map of the way down; from the U-shape.
        grid, first, layers, drop_path, dropout: from the U-shape.
    """

    name = "up_stage"
    kind = "stage"
    papers = ("uformer",)

    def __init__(
        self,
        dim: int,
        *,
        depth: int,
        block: Spec | Sequence[Spec],
        inputs: int,
        skip_dim: int,
        upsample: Spec = Spec("expand"),
        skip: Spec = Spec("project"),
        grid: Sequence[int] = (56, 56),
        first: int = 0,
        layers: int | None = None,
        drop_path: Sequence[float] = (),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.dim, self.grid = dim, tuple(grid)
        self.skip = build(skip, "skip", dim=dim, skip_dim=skip_dim)
        self.upsample = build(upsample, "upsample", inputs=inputs, dim=self.skip.inputs, rank=len(self.grid))
        self.blocks = Stack(
            block, depth, dim=dim, grid=self.grid, first=first, layers=layers, drop_path=drop_path, dropout=dropout
        )

    def forward(self, x: Float[Tensor, "b *grid i"], skip: Float[Tensor, "b *finer s"]) -> Float[Tensor, "b *finer c"]:
        return self.blocks(self.skip(self.upsample(x, skip.shape[1:-1]), skip))


class UShape(ImageModel):
    """Images `(b, in_channels, *size)` to maps `(b, num_classes, *size)`.

    Stages lead down as in `Pyramid`; on the way up tokens become finer ones, the stage's output of the way down joins,
    and blocks follow. Ronneberger et al. 2015, arXiv:1505.04597, with blocks of tokens.

    Args:
        stages: as `Pyramid`'s.
        up: Spec("up_stage", dim=..., depth=..., block=...) for each stage on the way up, coarsest first; None mirrors
            the way down, with linear maps between.
        embed: from image to the first stage's tokens.
        up_depth: blocks of each stage of a mirrored way up (None: as many as on the way down).
        head: from the finest tokens to channels for each of them.
        global_residual: how the output joins the image, which then has as many channels: Spec("add") for restoration;
            None for none.
        multiple: sides of images are multiples of this.
        rest: other images are filled up by reflection and the output is cut back ("reflect"), or raise `SizeError`.
        image_size, in_channels, num_classes, drop_path, dropout: as `Isotropic`'s; num_classes is the channels of the
            output.
        init: as `Isotropic`'s.

    Raises:
        OptionError: no channels of output; as many stages up as down; a residual between other numbers of channels.
    """

    name = "ushape"
    papers = ("uformer",)

    @chooses_start
    def __init__(
        self,
        *,
        stages: Sequence[Spec],
        up: Sequence[Spec] | None = None,
        embed: Spec = Spec("patch", size=4),
        up_depth: int | None = None,
        head: Spec = Spec("map_head"),
        global_residual: Spec | None = None,
        multiple: int = 1,
        rest: Rest = "reflect",
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
        check_multiple(self.image_size, multiple, rest, self.name)
        self.multiple = multiple
        self.rest: Rest = rest
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
        *levels, deepest = list[Any](self.down.stages)
        specs = mirrored(stages, up_depth) if up is None else [as_spec(s, "up") for s in up]
        if len(specs) != len(levels):
            raise OptionError(
                f"a U-shape with {len(levels) + 1} stages down has {len(levels)} up; given {len(specs)} in up=."
            )
        depths = [int(s.options.get("depth", 0)) for s in specs]
        rates = growing(drop_path, sum(depths))[::-1]
        self.up = nn.ModuleList()
        inputs, first = deepest.dim, 0
        for spec, level, depth in zip(specs, reversed(levels), depths, strict=True):
            stage = build(
                spec,
                "stage",
                inputs=inputs,
                skip_dim=level.dim,
                grid=level.grid,
                first=first,
                layers=sum(depths),
                drop_path=rates[first : first + depth],
                dropout=dropout,
            )
            self.up.append(stage)
            inputs, first = stage.dim, first + depth
        self.head = build(head, "head", dim=inputs, num_classes=num_classes, rank=rank)
        if global_residual is not None and num_classes != in_channels:
            raise OptionError(
                f"an output that is added to the image has its channels; given in_channels={in_channels} and "
                f"num_classes={num_classes}."
            )
        self.global_residual = (
            build(global_residual, "residual", dim=num_classes) if global_residual is not None else None
        )

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens of the finest grid after the way up."""
        *skips, x = (m.movedim(1, -1) for m in self.down.features(images))
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = stage(x, skip)
        return x

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps of the way down, finest first; of the image as it was filled up."""
        return self.down.features(fill(images, self.multiple, self.rest, self.name), layers)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes *size"]:
        size = images.shape[2:]
        filled = fill(images, self.multiple, self.rest, self.name)
        maps = channels_first(self.head(self.tokens(filled)))
        if maps.shape[2:] != filled.shape[2:]:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(self.image_size)]
            maps = nn.functional.interpolate(maps, size=filled.shape[2:], mode=mode)
        maps = maps[(slice(None), slice(None), *(slice(s) for s in size))]
        return maps if self.global_residual is None else self.global_residual(images, maps)


def mirrored(stages: Sequence[Spec], depth: int | None) -> list[Spec]:
    """Stages up with the widths and blocks of those down, coarsest first, each with `depth` blocks (None: the same)."""
    above = [as_spec(s, "stages").options for s in reversed(stages[:-1])]
    return [
        Spec("up_stage", dim=o["dim"], depth=o["depth"] if depth is None else depth, block=o["block"]) for o in above
    ]
