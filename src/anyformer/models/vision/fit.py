"""FIT (Far-reaching Interleaved Transformer) as an encoder of images: groups of patches, and latents of each group.

Chen and Li 2023, arXiv:2305.12689, section 2. The same trunk predicts sequences in `models/language/fit_decoder.py` and
noise in `models/generation/fit_denoiser.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.grouped_images import GroupedImages
from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec

PAPERS = ("fit",)


class FIT(ImageModel):
    """Images `(b, in_channels, *image_size)` to logits `(b, num_classes)`.

    Args:
        dim, latent_dim, layers, patch, group, latents, heads, latent_heads, ratio: as `GroupedImages`'s.
        head: from tokens to logits.
        image_size, in_channels, num_classes, drop_path, dropout, init: as `Isotropic`'s.

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
        latent_dim: int,
        layers: str = "(2)4(2)",
        patch: int = 8,
        group: int = 8,
        latents: int = 4,
        heads: int = 8,
        latent_heads: int = 8,
        ratio: float = 4.0,
        head: Spec = Spec("classifier"),
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        shape: dict[str, Any] = {"patch": patch, "group": group, "latents": latents, "heads": heads, "ratio": ratio}
        self.groups = GroupedImages(
            dim, latent_dim, layers=layers, latent_heads=latent_heads, image_size=self.image_size,
            in_channels=in_channels, drop_path=drop_path, dropout=dropout, **shape,
        )  # fmt: skip
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
        return one_map(self.tokens(images), layers)


def one_map(tokens: Float[Tensor, "b *grid c"], layers: Sequence[int] | None) -> list[Float[Tensor, "b c *grid"]]:
    """The map of the last tokens, once for each layer asked for. Raises `OptionError` for others than 0 and -1."""
    chosen = [-1] if layers is None else list(layers)
    if any(i not in (0, -1) for i in chosen):
        raise OptionError(f"a FIT has one map, after its last layers: layers 0 or -1; given layers={layers}.")
    found = channels_first(tokens)
    return [found for _ in chosen]


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
