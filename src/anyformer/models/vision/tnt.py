"""Transformer in Transformer (TNT): a small transformer on the words inside every patch feeds that on the patches.

Han et al. 2021, arXiv:2103.00112, section 2 and table 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.nested import Nested
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start, trunc_normal
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import plan, tile
from anyformer.layers.embedding.patchwise import check_patches

PAPERS = ("tnt",)


class TNT(ImageModel):
    """Words, sentences, nested blocks, norm, head. Images `(b, in_channels, *size)` to logits `(b, num_classes)`.

    A head that needs class tokens makes the sentences a sequence; others keep the grid of patches.

    Equations 1 to 8 of the paper: words of a patch get positions inside it, all words of a patch make its first
    sentence, sentences and class token get positions in the image.

    Args:
        dim, inputs: channels of sentences and of words.
        depth: blocks.
        block: a block of words and sentences, e.g. Spec("nested", inner=..., outer=...).
        patch: side of a patch in pixels.
        embed: from the image to the map of words; its stride divides the patch.
        fold: from words to the first sentences.
        position: positions of sentences; those of words are learned.
        norm: norm of the last sentences.
        head: e.g. Spec("classifier", pool=Spec("class")).
        image_size, in_channels, num_classes, drop_path, dropout, init: as `Isotropic`'s.

    Raises:
        OptionError: words that do not divide the patch.
        SizeError: an image that patches do not divide.
    """

    name = "tnt"
    papers = ("tnt",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        inputs: int,
        depth: int,
        block: Spec,
        patch: int = 16,
        embed: Spec = Spec("patchwise_conv"),
        fold: Spec = Spec("words_to_sentence", bias=True),
        position: Spec = Spec("learned"),
        norm: Spec | None = Spec("layernorm"),
        head: Spec = Spec("classifier", pool=Spec("class")),
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels, self.patch = sides(image_size), in_channels, patch
        rank = len(self.image_size)
        self.embed = build(embed, "embed", dim=inputs, in_channels=in_channels, rank=rank)
        check_patches(self.image_size, patch)
        self.words = tuple(self.embed.grid((patch,) * rank))
        whole = self.embed.grid(self.image_size)
        self.grid = tuple(s // patch for s in self.image_size)
        if any(n != g * w for n, g, w in zip(whole, self.grid, self.words, strict=True)):
            raise OptionError(
                f"an image of {self.image_size} becomes {whole} words, which are not {self.grid} patches of "
                f"{self.words} words: take an embedding whose stride divides patch={patch}."
            )
        self.word_position = build("learned", "position", dim=inputs, grid=self.words)
        self.fold = build(fold, "downsample", inputs=inputs, dim=dim, words=self.words)
        self.head = build(head, "head", dim=dim, num_classes=num_classes)
        self.num_prefix = self.head.prefix
        self.prefix = nn.Parameter(trunc_normal(torch.empty(self.num_prefix, dim), 0.02)) if self.num_prefix else None
        self.position = build(position, "position", dim=dim, grid=self.grid, prefix=self.num_prefix)
        self.dropout = nn.Dropout(dropout)
        self.blocks = Stack(
            block,
            depth,
            dim=dim,
            word_dim=inputs,
            words=self.words,
            grid=(self.num_prefix + math.prod(self.grid),) if self.num_prefix else self.grid,
            drop_path=growing(drop_path, depth),
            dropout=dropout,
        )
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def embedded(self, images: Float[Tensor, "b i *size"]) -> Nested:
        """Words and sentences before the first block."""
        check_patches(images.shape[2:], self.patch)
        x = self.embed(images)
        grid = self.grid_of(images)
        cut = plan(tuple(x.shape[1:-1]), self.words, (0,) * len(grid))
        words = tile(x, cut).flatten(0, 1).unflatten(1, self.words)
        words = self.word_position(words).unflatten(0, (len(x), -1))
        sentences = self.fold(words)
        if self.prefix is not None:
            sentences = torch.cat([self.prefix.expand(len(x), -1, -1).to(x.dtype), sentences], 1)
        else:
            sentences = sentences.unflatten(1, grid)
        return words, self.dropout(self.position(sentences, grid=grid))

    def grid_of(self, images: Tensor) -> tuple[int, ...]:
        """The grid of patches of these images."""
        return tuple(s // self.patch for s in images.shape[2:])

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Sentences after the last block and norm; with class tokens `(b, prefix + n, c)`."""
        _, x = self.blocks(self.embedded(images))
        return x if self.norm is None else self.norm(x)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes"]:
        return self.head(self.tokens(images), prefix=self.num_prefix)

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps of sentences after the chosen blocks; with `layers=None`, one: after the last block and norm."""
        if layers is None:
            outputs = [self.tokens(images)]
        else:
            x: Any = self.embedded(images)
            outputs = [sentences for _, sentences in self.blocks.outputs(x, layers)]
        grid = self.grid_of(images)
        return [channels_first(y.flatten(1, -2)[:, self.num_prefix :].unflatten(1, grid)) for y in outputs]


def tnt(
    dim: int,
    word_dim: int,
    heads: tuple[int, int],
    *,
    depth: int = 12,
    ratio: float = 4.0,
    patch: int = 16,
    stride: int = 4,
    fold: Spec = Spec("words_to_sentence"),
    embed: Spec | None = None,
    image_size: int = 224,
) -> Spec:
    """A TNT.

    Args:
        dim, word_dim: channels of sentences and of words.
        heads: of sentences and of words.
        depth, ratio: blocks, and hidden channels per channel of all MLPs.
        patch, stride: pixels of a patch, and from word to word.
        fold: from words to their sentence, in every block.
        embed: from the image to words (None: a 7x7 convolution inside every patch).
        image_size: side of the image.
    """

    def block(count: int) -> Spec:
        return Spec("prenorm", mixer=Spec("attention", heads=count, bias=False), ffn=Spec("mlp", ratio=ratio))

    return Spec(
        "tnt",
        dim=dim,
        inputs=word_dim,
        depth=depth,
        patch=patch,
        embed=Spec("patchwise_conv", within=patch, stride=stride) if embed is None else embed,
        block=Spec("nested", inner=block(heads[1]), outer=block(heads[0]), fold=fold),
        image_size=image_size,
    )


VARIANTS = {
    "tnt_ti": tnt(192, 12, (3, 2)),
    "tnt_s": tnt(384, 24, (6, 4)),
    "tnt_b": tnt(640, 40, (10, 4)),
    # timm's first form: words see across the borders of patches, and are normed one by one.
    "tnt_s_legacy": tnt(
        384,
        24,
        (6, 4),
        fold=Spec("words_to_sentence", word_norm=Spec("layernorm"), norm_before=None, norm_after=None, bias=True),
        embed=Spec("patch", size=7, stride=4, padding=3),
    ),
    # Ours, for images of 8 to 64 pixels and for tests.
    "tnt_micro": tnt(
        64, 8, (2, 2), depth=4, ratio=2.0, patch=4, stride=1, image_size=8,
        embed=Spec("patchwise_conv", within=4, size=3, stride=1, padding=1),
    ).set(init="fan_in"),
}  # fmt: skip
