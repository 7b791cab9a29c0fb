"""MOAT's stem: two convolutions, and the strided mobile convolution with which its first stage begins."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.convolution.mbconv import NORM, same_padded
from anyformer.layers.embedding.conv_stem import ConvStem


class MBConvStem(Part):
    """3x3 convolutions of stride 2 and 1, then a downsampling: images `(b, in_channels, *size)` to tokens of size / 4.

    Yang et al. 2022 (MOAT), arXiv:2210.01820, table 1. At stride 2 an even image is padded at its end alone, as the
    authors' weights expect.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        width: channels of the convolutions.
        downsample: what follows them.
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "mbconv_stem"
    kind = "embed"
    papers = ("moat",)
    tiny = {"in_channels": 3, "width": 4}

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        in_channels: int = 3,
        downsample: Spec = Spec("mbconv_downsample", excite=0.25),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        self.stem = ConvStem(
            width, in_channels=in_channels, widths=(width,), strides=(2, 1), paddings=(0, 1), norm=NORM,
            act=Spec("gelu"), out_norm=None, rank=rank, what=what,
        )  # fmt: skip
        self.downsample = build(downsample, "downsample", inputs=width, dim=dim, rank=rank)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.downsample.grid([math.ceil(s / 2) for s in size])

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        return self.downsample(self.stem(same_padded(images.movedim(1, -1), 3, 2).movedim(-1, 1)))
