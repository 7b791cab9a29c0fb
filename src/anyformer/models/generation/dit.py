"""DiT: a transformer over patches of a noisy image that tells the noise, conditioned on time and class by its norms.

Peebles and Xie 2022, arXiv:2212.09748.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.adaln import Modulation, adaptive_norm
from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear, published
from anyformer.core.spec import Spec
from anyformer.layers.embedding.condition import LabelEmbedding, TimestepEmbedding

PAPERS = ("switch_dit",)


class DiT(ImageModel):
    """Noisy images `(b, i, h, w)`, times `(b,)` and labels `(b,)` to what was added, `(b, i, h, w)`, or twice as much.

    With `learn_sigma` the second half of the channels says where the variance of a reverse step lies between its bounds
    (Nichol and Dhariwal 2021, arXiv:2102.09672, equation 15). What the first half means (noise, velocity, the clean
    image) is up to who trains it. Cost: that of a ViT of this size, and 6 c^2 multiply-adds a block for the conditions.

    Args:
        dim, depth: channels; blocks.
        block: the block, or blocks that alternate; they are called with (tokens, segments, condition `(b, c)`).
        embed: from image to tokens; its patches do not overlap.
        position: absolute positions.
        image_size: size that fixed mixers are made for; others are served where parts can.
        in_channels: channels of the image, or of an autoencoder's code.
        num_classes: classes; 0 for a model that is told none.
        label_dropout: share of labels dropped in training, for guidance without a classifier.
        learn_sigma: whether the variance is told too.
        drop_path, dropout, init: as `Isotropic`'s; "published" is Xavier's start, with 0.02 for time and labels.

    Raises:
        SizeError: images that patches do not divide; another batch of times or labels than of images.
        DataError: a label that is no class.
        OptionError: no label for a model without a null class.
    """

    name = "dit"
    papers = ("switch_dit",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        embed: Spec = Spec("patch", size=2, rest="refuse"),
        position: Spec | None = Spec("sincos_grid"),
        image_size: int | Sequence[int] = 32,
        in_channels: int = 4,
        num_classes: int = 1000,
        label_dropout: float = 0.1,
        learn_sigma: bool = True,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels, self.num_classes = sides(image_size), in_channels, num_classes
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.embed = build(embed, "embed", dim=dim, in_channels=in_channels, rank=2)
        self.grid = self.embed.grid(self.image_size)
        self.position = build(position, "position", dim=dim, grid=self.grid) if position is not None else None
        self.time = TimestepEmbedding(dim)
        self.label = LabelEmbedding(dim, num_classes=num_classes, dropout=label_dropout) if num_classes else None
        self.blocks = Stack(block, depth, dim=dim, grid=self.grid, drop_path=growing(drop_path, depth), dropout=dropout)
        self.modulation = Modulation(dim, 2)
        self.head = linear(dim, self.out_channels * self.embed.stride**2)
        if published():
            self.start_as_published()
        nn.init.zeros_(self.head.weight)

    def start_as_published(self) -> None:
        """Xavier's uniform start for the matrices of the patches and of the branches."""
        nn.init.xavier_uniform_(self.embed.project.weight.flatten(1))
        for name, parameter in self.blocks.named_parameters():
            if parameter.dim() == 2 and not name.rpartition(".")[0].endswith("modulation.linear"):
                nn.init.xavier_uniform_(parameter)

    def conditions(self, t: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None) -> tuple[Tensor, ...]:
        """What blocks get beside tokens and segments: the sum of both embeddings, `(b, c)`."""
        return (self.told(self.time(t), labels),)

    def told(self, time: Float[Tensor, "b c"], labels: Int[Tensor, "b"] | None) -> Float[Tensor, "b c"]:
        """The embedding of a time and of its label; without one, of the null class."""
        if self.label is None:
            return time
        if labels is None:
            labels = torch.full(time.shape[:1], self.label.null, device=time.device)
        return time + self.label(labels)

    def check(self, images: Tensor, t: Tensor, labels: Tensor | None) -> None:
        """Raise `SizeError` unless every image has one time and one label, if any."""
        for what, given in (("times", t), ("labels", labels)):
            if given is not None and tuple(given.shape) != (len(images),):
                raise SizeError(
                    f"{what} are one number for each of the {len(images)} images, of shape ({len(images)},); "
                    f"given {tuple(given.shape)}."
                )
        if labels is not None and self.label is None:
            raise OptionError("this model was built without classes (num_classes=0): leave the labels out.")

    def embedded(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens before the first block."""
        x = self.embed(images)
        return x if self.position is None else self.position(x)

    def forward(
        self, images: Float[Tensor, "b i *size"], t: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b o *size"]:
        self.check(images, t, labels)
        condition, *others = self.conditions(t, labels)
        x = self.blocks(self.embedded(images), None, condition, *others)
        shift, scale = self.modulation(condition)
        x = self.head(adaptive_norm(x, scale, shift))
        return nn.functional.pixel_shuffle(channels_first(x), self.embed.stride)

    def features(
        self,
        images: Float[Tensor, "b i *size"],
        t: Float[Tensor, "b"] | None = None,
        labels: Int[Tensor, "b"] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps after the chosen blocks (None: the last), at the time given; without one, at time 0: no noise."""
        t = images.new_zeros(len(images)) if t is None else t
        self.check(images, t, labels)
        chosen = [-1] if layers is None else layers
        tokens = self.blocks.outputs(self.embedded(images), chosen, None, *self.conditions(t, labels))
        return [channels_first(x) for x in tokens]

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random images, whole times below 1000, and labels where the model knows classes."""
        given = (*super().example_inputs(size, batch), torch.randint(1000, (batch,), device=self.device))
        return (*given, torch.randint(self.num_classes, (batch,), device=self.device)) if self.num_classes else given


def transformer_block(heads: int) -> Spec:
    """DiT's block: attention and an MLP with the approximate GELU, normed as the condition says."""
    return Spec(
        "adaln_zero",
        mixer=Spec("attention", heads=heads),
        ffn=Spec("mlp", ratio=4.0, act=Spec("gelu", approximate="tanh")),
    )


def dit(dim: int, depth: int, heads: int, patch: int) -> Spec:
    """A DiT for codes of 32x32 with 4 channels, which an autoencoder makes of images of 256x256 pixels."""
    embed = Spec("patch", size=patch, rest="refuse")
    return Spec("dit", dim=dim, depth=depth, block=transformer_block(heads), embed=embed)


SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}
"""Channels, depth and heads: table 1 of the paper."""

VARIANTS = {f"dit_{size}_{patch}": dit(*shape, patch) for size, shape in SIZES.items() for patch in (2, 4, 8)}
# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["dit_micro"] = dit(64, 4, 4, 2).set(
    image_size=8, in_channels=1, num_classes=10, learn_sigma=False, init="fan_in"
)
