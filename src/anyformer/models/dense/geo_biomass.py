"""A number for every pixel of a satellite tile: an encoder pretrained on unlabelled tiles, and one convolution.

Muszynski et al. 2024, arXiv:2406.19888: above-ground biomass by a Swin-B that masked image modelling has pretrained,
frozen or tuned, against a U-Net from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.blocks.freezing import Freezing
from anyformer.core.spec import Spec
from anyformer.models.dense.segmenter import Segmenter
from anyformer.models.vision.swin import SMALL, swin

PAPERS = ("geo_biomass",)


class PixelRegressor(Freezing, Segmenter):
    """Images `(b, in_channels, *size)` to numbers `(b, num_classes, *size)`, over an encoder that can be frozen.

    Cost: the backbone's and the head's.

    Args:
        head: from its maps to numbers, by default one convolution.
        norm: norm of every map.
        num_classes: numbers for each pixel.
        options: the others of `Segmenter`.
    """

    name = "pixel_regressor"
    papers = ("geo_biomass",)
    pretrained = "backbone"

    def __init__(
        self,
        *,
        backbone: Spec,
        head: Spec = Spec("conv_decoder"),
        norm: Spec | None = Spec("layernorm"),
        num_classes: int = 1,
        **options: Any,
    ):
        super().__init__(backbone=backbone, head=head, norm=norm, num_classes=num_classes, **options)


def unet(
    dims: Sequence[int], depth: int = 1, *, in_channels: int = 6, image_size: int = 224, num_classes: int = 1
) -> Spec:
    """A U-Net of residual 3x3 convolutions at full resolution: arXiv:1505.04597, with blocks of arXiv:1512.03385."""
    block = Spec("basic_block")
    stages = [
        Spec(
            "stage",
            dim=dim,
            depth=depth,
            block=block,
            downsample=Spec("basic_start", stride=2) if i else None,
        )
        for i, dim in enumerate(dims)
    ]
    return Spec(
        "ushape",
        stages=stages,
        embed=Spec("conv_stem", widths=(), strides=(1,), out_act=Spec("relu")),
        multiple=2 ** (len(dims) - 1),
        in_channels=in_channels,
        image_size=image_size,
        num_classes=num_classes,
    )


BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
"""Six bands that Landsat 8 and Sentinel-2 share."""

VARIANTS = {
    "biomass_swin_base": Spec(
        "pixel_regressor",
        backbone=swin(128, SMALL, (4, 8, 16, 32)),
        multiple=32,
        in_channels=len(BANDS),
    ),
    "biomass_unet": unet((64, 128, 256, 512, 1024)),
    # Ours, for tiles of 16 to 64 pixels and for tests.
    "biomass_micro": Spec(
        "pixel_regressor",
        backbone=swin(32, (2, 2), (2, 4), windows=4, patch=2, ratio=2.0, image_size=32).set(init="fan_in"),
        in_channels=len(BANDS),
        image_size=32,
        init="fan_in",
    ),
    "biomass_unet_micro": unet((16, 32, 64), image_size=32).set(init="fan_in"),
}
