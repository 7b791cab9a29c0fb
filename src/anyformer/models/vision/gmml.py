"""GMML: restore images in which groups of connected patches were corrupted, without any mask token.

Atito et al. 2022, arXiv:2205.14986. The encoders are those of the authors' repository; any image model can be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import FitError
from anyformer.core.spec import Spec
from anyformer.models.vision.masked_image import ImageRestorer, cut
from anyformer.models.vision.vit import VARIANTS as VIT

PAPERS = ("gmml",)


class GMML(ImageRestorer):
    """Corrupted images `(b, c, h, w)` to restored ones: encoder, three linear layers, a transposed convolution.

    The head sees the mean of the tokens after some blocks. Section 3 of the paper. Cost: the encoder's, and
    3 dim^2 + c stride^2 dim multiply-adds per token.

    Args:
        encoder, image_size, in_channels: as `ImageRestorer`'s.
        layers: blocks whose outputs are averaged, counted from 0; None: the last tokens. Only in isotropic encoders.
    """

    name = "gmml"
    papers = ("gmml",)

    def __init__(
        self,
        *,
        encoder: Spec,
        image_size: int | Sequence[int] | None = None,
        in_channels: int | None = None,
        layers: Sequence[int] | None = None,
    ):
        super().__init__(encoder, image_size, in_channels)
        if layers is not None and hasattr(self.encoder, "stages"):
            raise FitError("layers average tokens of one grid; a pyramid has several: leave layers out.")
        self.layers = None if layers is None else tuple(layers)
        with init.starting(self.start):
            self.head = nn.Sequential(*(m for _ in range(3) for m in (init.linear(self.dim, self.dim), nn.GELU())))
        self.pixels = nn.ConvTranspose2d(self.dim, self.in_channels, self.stride, self.stride)

    def forward(self, images: Float[Tensor, "b i h w"]) -> Float[Tensor, "b i h w"]:
        if self.layers is None:
            tokens = self.on_grid(self.encoder.tokens(images), images.shape[2:]).movedim(1, -1)
        else:
            tokens = torch.stack(self.encoder.features(images, self.layers)).mean(0).movedim(1, -1)
            tokens = tokens if self.encoder.norm is None else self.encoder.norm(tokens)
        return cut(self.pixels(self.head(tokens).movedim(-1, 1)), images.shape[2:])


LAYERS: dict[str, Any] = {"layers": (5, 7, 9, 11)}

VARIANTS = {
    f"gmml_vit_{size}": Spec("gmml", encoder=VIT[f"vit_{size}_patch16"], **LAYERS) for size in ("tiny", "small", "base")
}
# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["gmml_micro"] = Spec("gmml", encoder=VIT["vit_micro"])
