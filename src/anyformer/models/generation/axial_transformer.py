"""Axial Transformer: the likelihood of an image, pixel by pixel, with attention along rows and columns only.

Ho et al. 2019, arXiv:1912.12180.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model, sides
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv
from anyformer.layers.embedding.token import TokenEmbedding
from anyformer.layers.position.axis_tables import AxisTables

RESIDUAL_SHRINK = 1e-5
"""By how much branches start smaller than their inputs say, so that each block starts as next to nothing."""


def shift(x: Float[Tensor, "b *grid c"], axis: int) -> Float[Tensor, "b *grid c"]:
    """One place further along an axis of the grid, zeros first: what stood last falls out. Section 3.2."""
    kept = x.narrow(axis + 1, 0, x.shape[axis + 1] - 1)
    return torch.cat([torch.zeros_like(x.narrow(axis + 1, 0, 1)), kept], axis + 1)


class AxialTransformer(Model):
    """Images `(b, in_channels, h, w)` of whole numbers to scores `(b, in_channels, h, w, levels)` of every value.

    The scores of a pixel depend on all pixels before it, channel by channel and in raster order, and on no other;
    softmax over them gives p(x) = prod p(x_i | x_<i), with nothing left out. A channel goes through three parts
    (section 3.2): the channel encoder, rows and columns unmasked, over the channels before it; the outer decoder, rows
    unmasked and columns masked, shifted down by one row, over the rows above; the inner decoder, masked rows over the
    pixels to the left. Cost for n pixels: about n^1.5 (encoder + outer + inner) dim multiply-adds of mixing a channel,
    against n^2 for attention among all.

    Args:
        dim: channels of a token.
        block: what goes along rows and columns; any block of sequences whose mixer can be causal.
        encoder, outer, inner: layers of the three parts. Encoder and outer decoder take rows and columns in turn, and
            an even number. Without an outer decoder, rows know nothing of each other.
        levels: values that a pixel has in a channel.
        image_size, in_channels: of the image; a smaller one works.
        norm: norm before the scores.
        drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s. The authors start "fan_in".

    Raises:
        OptionError: an odd number of row and column layers; several channels without an encoder.
        SizeError, DataError: images that are larger, of other channels, or of other values.
    """

    name = "axial_transformer"
    papers = ("axial_transformer",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        block: Spec = Spec("prenorm", mixer=Spec("attention", heads=4)),
        encoder: int = 8,
        outer: int = 8,
        inner: int = 8,
        levels: int = 256,
        image_size: int | Sequence[int] = 32,
        in_channels: int = 3,
        norm: Spec = Spec("layernorm"),
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        for name, count in (("encoder", encoder), ("outer", outer)):
            if count % 2:
                raise OptionError(
                    f"axial_transformer.{name} takes rows and columns in turn, an even number; given {count}."
                )
        if in_channels > 1 and not encoder:
            raise OptionError(
                f"{in_channels} channels depend on each other through the channel encoder: give encoder=2 or more."
            )
        if levels < 2:
            raise OptionError(f"axial_transformer.levels is 2 or more; given {levels}.")
        self.levels, self.in_channels, self.image_size = levels, in_channels, sides(image_size)
        std = 5.0 * dim**-0.5
        common = {"dim": dim, "dropout": dropout}
        rows, columns, earlier = (
            Spec("along", block=block, axis=axis, causal=causal) for axis, causal in ((1, False), (0, False), (0, True))
        )

        def stack(blocks: Spec | Sequence[Spec], depth: int, **options) -> Stack:
            return Stack(blocks, depth, drop_path=(drop_path,) * depth, **common, **options)

        self.embed = TokenEmbedding(dim, vocab_size=levels, std=std)
        self.position = AxisTables(dim, grid=self.image_size, std=std)
        self.channels = None
        if encoder:
            self.channels = StridedConv(2 * in_channels, dim, kernel=3, stride=1, padding=1, what="channel encoder")
            self.channel_position = AxisTables(dim, grid=self.image_size, std=std)
            self.encoder = stack((rows, columns), encoder, grid=self.image_size)
        self.outer = stack((rows, earlier), outer, grid=self.image_size)
        self.inner = stack(block, inner, grid=self.image_size[1:], causal=True)
        self.norm = build(norm, "norm", dim=dim)
        self.head = linear(dim, levels, std=RESIDUAL_SHRINK * dim**-0.5)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith(("mixer.out.weight", "ffn.down.weight")):
                    weight.mul_(RESIDUAL_SHRINK)

    def check(self, images: Tensor) -> None:
        """Raise where these are no images that the model knows."""
        high, wide = self.image_size
        good = images.dim() == 4 and images.shape[1] == self.in_channels
        if not good or images.shape[2] > high or images.shape[3] > wide or not images.numel():
            raise SizeError(
                f"this model takes images (batch, {self.in_channels}, up to {high}, up to {wide}); given "
                f"{tuple(images.shape)}: set image_size= or in_channels= of create_model."
            )
        if images.is_floating_point() or images.is_complex():
            given = str(images.dtype).removeprefix("torch.")
            raise DataError(f"pixels are whole numbers from 0 to {self.levels - 1}; given {given}.")
        if not torch.compiler.is_compiling():
            low, top = (int(bound) for bound in images.aminmax())
            if low < 0 or top >= self.levels:
                raise DataError(f"pixels are whole numbers from 0 to {self.levels - 1}; given {low} to {top}.")

    def condition(self, images: Int[Tensor, "b i h w"], channel: Int[Tensor, " b"]) -> Float[Tensor, "b h w c"] | None:
        """What the channels before `channel` say; None for a model without an encoder."""
        if self.channels is None:
            return None
        numbers = torch.arange(self.in_channels, device=images.device)
        known = (numbers < channel[:, None])[:, :, None, None]
        asked = (numbers == channel[:, None])[:, :, None, None].expand_as(images)
        weight = self.channels.weight
        before = (images * known).to(weight.dtype) / (self.levels - 1)
        x = self.channels(torch.cat([before, asked.to(weight.dtype)], 1).movedim(1, -1))
        return self.encoder(self.channel_position(x))

    def context(
        self, pixels: Float[Tensor, "b h w c"], condition: Float[Tensor, "b h w c"] | None
    ) -> Float[Tensor, "b h w c"]:
        """All that a pixel's tokens begin with beside its left neighbour: place, channels before, rows above."""
        given = self.position.codes(pixels.shape[1:-1])
        given = given.expand_as(pixels) if condition is None else given + condition
        if not len(self.outer):
            return given
        return given + shift(self.outer(pixels + given), 0)

    def hidden(
        self, images: Int[Tensor, "b i h w"], channel: Int[Tensor, " b"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b h w c"]]:
        """Tokens of one channel of each image, after the chosen blocks of the inner decoder (None: the last)."""
        value = images.gather(1, channel[:, None, None, None].expand(-1, 1, *images.shape[2:]))[:, 0]
        pixels = self.embed(value)
        x = shift(pixels, 1) + self.context(pixels, self.condition(images, channel))
        rows = x.flatten(0, 1)
        found = [self.inner(rows)] if layers is None else self.inner.outputs(rows, layers)
        return [y.view_as(x) for y in found]

    def channel_logits(
        self, images: Int[Tensor, "b i h w"], channel: Int[Tensor, " b"]
    ) -> Float[Tensor, "b h w levels"]:
        """Scores of one channel of each image; which one may differ. The authors train on one drawn per image."""
        self.check(images)
        return self.scores(self.hidden(images, channel)[0])

    def scores(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b levels"]:
        """Of every value, from tokens of the inner decoder."""
        return self.head(self.norm(x))

    def forward(self, images: Int[Tensor, "b i h w"]) -> Float[Tensor, "b i h w levels"]:
        self.check(images)
        y = self.scores(self.hidden(*self.every_channel(images))[0])
        return y.unflatten(0, (-1, self.in_channels))

    def every_channel(self, images: Int[Tensor, "b i h w"]) -> tuple[Tensor, Tensor]:
        """Every image once for each of its channels, and their numbers."""
        channel = torch.arange(self.in_channels, device=images.device).repeat(len(images))
        return images.repeat_interleave(self.in_channels, 0), channel

    def features(
        self, images: Int[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c i h w"]]:
        """Maps `(b, c, in_channels, h, w)` after the chosen blocks of the inner decoder; None: after norm of the last.

        A map of one pixel sees the pixels before it only.
        """
        self.check(images)
        found = self.hidden(*self.every_channel(images), layers=layers)
        if layers is None:
            found = [self.norm(found[0])]
        return [y.unflatten(0, (-1, self.in_channels)).movedim(-1, 1) for y in found]

    @torch.no_grad()
    def sample(
        self,
        batch: int = 1,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "b i h w levels"] | None = None,
    ) -> Int[Tensor, "b i h w"]:
        """Draw images: the outer decoder runs once per row, the inner decoder continues by one pixel (section 3.3).

        Args:
            batch: how many.
            temperature: of the draws.
            generator: where the draws come from, on the model's device.
            noise: standard Gumbel noise to draw with, instead; the same noise gives the same images.
        """
        if temperature <= 0:
            raise OptionError(f"temperature is above 0; given {temperature}.")
        shape = (batch, self.in_channels, *self.image_size, self.levels)
        if noise is None:
            even = torch.rand(shape, generator=generator, device=self.device)
            noise = -torch.log(-torch.log(even.clamp(min=1e-30)).clamp(min=1e-30))
        elif tuple(noise.shape[1:]) != shape[1:]:
            raise SizeError(f"noise is (batch, channels, rows, columns, levels), {shape}; given {tuple(noise.shape)}.")
        noise = noise.to(self.device) * temperature
        images = noise.new_zeros(noise.shape[:-1], dtype=torch.long)
        for i in range(self.in_channels):
            condition = self.condition(images, images.new_full((len(images),), i))
            for row in range(self.image_size[0]):
                pixels = self.embed(images[:, i, : row + 1])
                known = None if condition is None else condition[:, : row + 1]
                given = self.context(pixels, known)[:, row]
                images[:, i, row] = self.drawn(given, noise[:, i, row])
        return images

    def drawn(self, given: Float[Tensor, "b w c"], noise: Float[Tensor, "b w levels"]) -> Int[Tensor, "b w"]:
        """One row of pixels, from left to right."""
        state = self.inner.init_state(len(given), like=given)
        left, found = torch.zeros_like(given[:, :1]), []
        for column in range(given.shape[1]):
            x, state = self.inner.extend(left + given[:, column : column + 1], state)
            found.append((self.scores(x) + noise[:, column : column + 1]).argmax(-1))
            left = self.embed(found[-1])
        return torch.cat(found, 1)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random values for images of `size`, or of the model's size."""
        shape = self.image_size if size is None else sides(size)
        return (torch.randint(self.levels, (batch, self.in_channels, *shape), device=self.device),)


def bits_per_dimension(model: nn.Module, images: Int[Tensor, "b i h w"]) -> Float[Tensor, ""]:
    """-log2 p(x) of images, over the number of their values: the loss to train with, times log 2, and the measure."""
    scores = model(images).float()
    nats = nn.functional.cross_entropy(scores.flatten(0, -2), images.flatten())
    return nats / torch.log(torch.tensor(2.0))


def axial_transformer(dim: int, heads: int, *, layers: int = 8, ratio: float = 1.0, image_size: int = 32) -> Spec:
    """An Axial Transformer as the authors train it, with as many layers in each of its parts."""
    mlp = Spec("mlp", ratio=ratio, act=Spec("quick_gelu"))
    return Spec(
        "axial_transformer",
        dim=dim,
        block=Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=mlp),
        encoder=layers,
        outer=layers,
        inner=layers,
        image_size=image_size,
        init="fan_in",
    )


VARIANTS = {
    # Section 4.1 and the authors' configurations.
    "axial_transformer_imagenet32": axial_transformer(1536, 16, image_size=32).set(dropout=0.04),
    "axial_transformer_imagenet64": axial_transformer(2048, 16, image_size=64),
    # Ours, for small images and tests.
    "axial_transformer_micro": axial_transformer(48, 4, layers=2, ratio=2.0, image_size=8).set(
        levels=16, in_channels=1, encoder=0
    ),
}
