"""FIT (Far-reaching Interleaved Transformer) as an encoder of images: groups of patches, and latents of each group.

Chen and Li 2023, arXiv:2305.12689, section 2. The same trunk predicts sequences in `models/language/fit_decoder.py` and
noise in `models/generation/fit_denoiser.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.grouped_images import FITImages
from anyformer.blocks.interleaved import last_alone
from anyformer.blocks.model import channels_first
from anyformer.core.build import build
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec

PAPERS = ("fit",)


class FIT(FITImages):
    """Images `(b, in_channels, *image_size)` to logits `(b, num_classes)`.

    Args:
        head: from tokens to logits.
        num_classes, init: as `Isotropic`'s.
        options: as `FITImages`'s.

    Raises:
        SizeError: an image that is not made of whole groups, or not of as many as the model was built for.
        OptionError: another notation of layers.
    """

    name = "fit"
    papers = ("fit",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        head: Spec = Spec("classifier"),
        num_classes: int = 1000,
        init: Start = "published",
        **options: Any,
    ):
        super().__init__(dim=dim, **options)
        self.head = build(head, "head", dim=dim, num_classes=num_classes)

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens on their grid after the trunk and its norm."""
        return self.groups(images)[0]

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes"]:
        return self.head(self.tokens(images))

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """The map `(b, c, *grid)` of the tokens after the trunk; there is one, number 0 or -1."""
        return last_alone(channels_first(self.tokens(images)), layers)


MICRO: dict[str, Any] = {
    "dim": 32,
    "latent_dim": 48,
    "layers": "(1)1(1)",
    "patch": 1,
    "group": 4,
    "latents": 2,
    "heads": 2,
    "latent_heads": 2,
    "ratio": 2.0,
    "image_size": 8,
    "init": "fan_in",
}

# Ours, for images of 8 pixels and for tests.
VARIANTS = {"fit_micro": Spec("fit", **MICRO)}
