"""What models that restore images share: an image model as the encoder, and its last tokens back on their grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.model import ImageModel
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.init import Start
from anyformer.core.registry import index
from anyformer.core.spec import Spec, as_spec


class ImageRestorer(ImageModel):
    """An encoder that restores its image; any image model that has `tokens` and `features`.

    Args:
        encoder: its Spec, or the name of a variant (Spec("swin_micro")); it gets no classes.
        image_size, in_channels: of the images; None leaves the encoder's.
    """

    papers = ("simmim", "gmml")

    def __init__(self, encoder: Spec, image_size: int | Sequence[int] | None, in_channels: int | None):
        super().__init__()
        given = {"image_size": image_size, "in_channels": in_channels}
        spec = encoder_spec(encoder).set(num_classes=0, **{k: v for k, v in given.items() if v is not None})
        self.encoder = build(spec, "model")
        self.start: Start = spec.options.get("init", "published")
        if not all(hasattr(self.encoder, need) for need in ("tokens", "features", "image_size", "in_channels")):
            raise FitError(f"an encoder of images has tokens and features; {spec.name} has not: take an image model.")
        self.image_size, self.in_channels = self.encoder.image_size, self.encoder.in_channels
        if len(self.image_size) != 2:
            raise FitError(f"{self.name} restores images (rank 2); this encoder takes rank {len(self.image_size)}.")
        last = self.encoder.embed.grid(self.image_size)
        for stage in getattr(self.encoder, "stages", ()):
            last = stage.grid_of(last)
        self.stride = self.image_size[0] // last[0]
        self.dim = spec.options["dim"] if "dim" in spec.options else self.encoder.stages[-1].dim

    @property
    def patch(self) -> int:
        """Pixels along the side of a token after the embedding."""
        return self.image_size[0] // self.encoder.embed.grid(self.image_size)[0]

    def on_grid(self, tokens: Float[Tensor, "b *n c"], size: Sequence[int]) -> Float[Tensor, "b c h w"]:
        """The last tokens of images of this size as a map, without class tokens."""
        grid = tuple(math.ceil(s / self.stride) for s in size)
        return tokens.flatten(1, -2)[:, -math.prod(grid) :].unflatten(1, grid).movedim(-1, 1)

    def features(self, images: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
        """The encoder's maps of whole images."""
        return self.encoder.features(images, layers)


def encoder_spec(encoder: Spec | str) -> Spec:
    """The Spec itself, or that of the variant that it names."""
    from anyformer.models.factory import model_spec

    encoder = as_spec(encoder, "encoder")
    return model_spec(encoder.name).set(**encoder.options) if encoder.name in index()["variants"] else encoder


def cut(images: Float[Tensor, "b c H W"], size: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """Without what patches hang over the image's end."""
    return images[..., : size[0], : size[1]]
