"""FIT (Far-reaching Interleaved Transformer) as a denoiser of pixels: groups of patches, and latents of each group.

Chen and Li 2023, arXiv:2305.12689, section 2.3: the Recurrent Interface Network (arXiv:2212.11972) with tokens in
groups, whose latents can go on from those of the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.grouped_images import FITImages
from anyformer.blocks.interleaved import NORM, last_alone
from anyformer.blocks.model import channels_first
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec
from anyformer.layers.embedding.condition import LabelEmbedding, TimestepEmbedding
from anyformer.models.vision.fit import MICRO

PAPERS = ("fit",)


class Carry(nn.Module):
    """norm(x + MLP(norm(x))) of the latents of the step before; the last norm's scale starts at 0."""

    def __init__(self, dim: int, ratio: float):
        super().__init__()
        self.norm = build(NORM, "norm", dim=dim)
        self.ffn = build(Spec("mlp", ratio=ratio), "ffn", dim=dim)
        self.out_norm = build(NORM.set(init=0.0), "norm", dim=dim)

    def forward(self, latents: Float[Tensor, "b g m d"]) -> Float[Tensor, "b g m d"]:
        return self.out_norm(latents + self.ffn(self.norm(latents)))


class FITDenoiser(FITImages):
    """Noisy images `(b, in_channels, *size)`, times and labels to what is predicted of them, of the same shape.

    Before each global part the latents read two tokens, the time and the label.

    Args:
        self_condition: "latent": latents start from the learned ones plus norm(x + MLP(norm(x))) of those that
            `denoise` gave the step before, that norm's scale from 0; "none": from the learned ones.
        label_dropout: share of labels that give way to the null class in training.
        num_classes: classes of the labels; 0 for none.
        init: as `Isotropic`'s.
        options: as `FITImages`'s.

    Raises:
        SizeError: an image that is not made of as many whole groups as the model was built for; not one time for each.
        OptionError: another notation of layers; labels without classes; latents of a step before without
            self-conditioning.
    """

    name = "fit_denoiser"
    papers = ("fit",)
    conditioned = True

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        latent_dim: int,
        layers: str = "(2)4(2)4(2)",
        patch: int = 4,
        latents: int = 8,
        ratio: float = 4.0,
        self_condition: Literal["none", "latent"] = "none",
        label_dropout: float = 0.1,
        image_size: int | Sequence[int] = 64,
        in_channels: int = 3,
        num_classes: int = 1000,
        init: Start = "published",
        **options: Any,
    ):
        super().__init__(
            dim=dim, latent_dim=latent_dim, layers=layers, patch=patch, latents=latents, ratio=ratio,
            image_size=image_size, in_channels=in_channels, **options,
        )  # fmt: skip
        self.num_classes, self.patch = num_classes, patch
        self.time = TimestepEmbedding(latent_dim)
        self.label = None
        if num_classes:
            self.label = LabelEmbedding(latent_dim, num_classes=num_classes, dropout=label_dropout)
        self.carry = Carry(latent_dim, ratio) if self_condition == "latent" else None
        self.head = linear(dim, in_channels * patch ** len(self.image_size))

    def denoise(
        self,
        images: Float[Tensor, "b i *size"],
        t: Float[Tensor, "b"],
        labels: Int[Tensor, "b"] | None = None,
        previous: Float[Tensor, "b g m d"] | None = None,
    ) -> tuple[Float[Tensor, "b i *size"], Float[Tensor, "b g m d"]]:
        """The prediction, and the latents, which the next step may take as `previous`."""
        tokens, latents = self.encode(images, t, labels, previous)
        return nn.functional.pixel_shuffle(channels_first(self.head(tokens)), self.patch), latents

    def encode(
        self, images: Tensor, t: Tensor, labels: Tensor | None, previous: Tensor | None
    ) -> tuple[Float[Tensor, "b *grid c"], Float[Tensor, "b g m d"]]:
        """Tokens on their grid and latents after the trunk."""
        for what, given in (("times", t), ("labels", labels)):
            if given is not None and tuple(given.shape) != (len(images),):
                raise SizeError(
                    f"{what} are one number for each of the {len(images)} images, of shape ({len(images)},); "
                    f"given {tuple(given.shape)}."
                )
        told = [self.time(t)]
        if self.label is not None:
            none = torch.full(t.shape, self.label.null, device=t.device) if labels is None else labels
            told.append(self.label(none))
        elif labels is not None:
            raise OptionError("this model was built without classes (num_classes=0): leave the labels out.")
        more = None
        if previous is not None and self.carry is None:
            raise OptionError(
                "this model was built without self-conditioning: leave previous out, or build it with "
                'self_condition="latent".'
            )
        if previous is not None and self.carry is not None:
            more = self.carry(previous)
        return self.groups(images, torch.stack(told, 1), more)

    def forward(
        self, images: Float[Tensor, "b i *size"], t: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b i *size"]:
        return self.denoise(images, t, labels)[0]

    def features(
        self,
        images: Float[Tensor, "b i *size"],
        t: Float[Tensor, "b"] | None = None,
        labels: Int[Tensor, "b"] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b c *grid"]]:
        """The map of the tokens after the trunk, at the time given; without one, at time 0: no noise."""
        t = images.new_zeros(len(images)) if t is None else t
        return last_alone(channels_first(self.encode(images, t, labels, None)[0]), layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random images, whole times below 1000, and labels where the model knows classes."""
        given = (*super().example_inputs(size, batch), torch.randint(1000, (batch,), device=self.device))
        return (*given, torch.randint(self.num_classes, (batch,), device=self.device)) if self.num_classes else given


# Ours, for images of 8 pixels and for tests.
VARIANTS = {
    "fit_denoiser_micro": Spec("fit_denoiser", **MICRO).set(
        layers="(1)1(1)1(1)", num_classes=10, in_channels=1, group=4
    )
}
