"""The isotropic skeleton: one width and one grid from the first block to the last (ViT, Mixer, ConvMixer)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.init import Start, chooses_start, trunc_normal
from anyformer.core.spec import Spec


class Isotropic(ImageModel):
    """Embed, add positions, repeat a block, norm, head. Images `(b, in_channels, *size)` to logits `(b, num_classes)`.

    A head that needs class tokens makes the tokens a sequence (grid rank 1); others keep the image's grid.

    Args:
        dim: channels.
        depth: blocks.
        block: the block, or blocks that alternate.
        embed: from image to tokens, e.g. Spec("patch", size=16).
        position: absolute positions, e.g. Spec("learned").
        registers: learned tokens beside the head's class tokens.
        first_norm: norm of the tokens before the first block (CLIP).
        norm: norm of the last block's output.
        head: e.g. Spec("classifier", pool=Spec("class")).
        image_size: size that positions and fixed mixers are made for; others are served where parts can.
        in_channels: channels of the image.
        num_classes: outputs of the head; 0 for pooled features.
        drop_path: stochastic depth of the last block; earlier ones less.
        dropout: share of values dropped in training, after positions and in every branch.
        init: how weights start: "published" (deviation 0.02) or "fan_in" (inputs^-0.5), for narrow models.
    """

    name = "isotropic"
    papers = ("vit",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        embed: Spec = Spec("patch"),
        position: Spec | None = None,
        registers: int = 0,
        first_norm: Spec | None = None,
        norm: Spec | None = Spec("layernorm"),
        head: Spec = Spec("classifier"),
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        self.embed = build(embed, "embed", dim=dim, in_channels=in_channels, rank=len(self.image_size))
        self.grid = self.embed.grid(self.image_size)
        self.head = build(head, "head", dim=dim, num_classes=num_classes)
        self.num_prefix = self.head.prefix + registers
        self.prefix = nn.Parameter(trunc_normal(torch.empty(self.num_prefix, dim), 0.02)) if self.num_prefix else None
        self.position = (
            build(position, "position", dim=dim, grid=self.grid, prefix=self.num_prefix)
            if position is not None
            else None
        )
        self.dropout = nn.Dropout(dropout)
        self.first_norm = build(first_norm, "norm", dim=dim) if first_norm is not None else None
        grid = (self.num_prefix + math.prod(self.grid),) if self.num_prefix else self.grid
        self.blocks = Stack(block, depth, dim=dim, grid=grid, drop_path=growing(drop_path, depth), dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def embedded(self, images: Float[Tensor, "b i *size"]) -> tuple[Tensor, tuple[int, ...]]:
        """Tokens before the first block, and their grid."""
        x = self.embed(images)
        grid = tuple(x.shape[1:-1])
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(len(x), -1, -1).to(x.dtype), x.flatten(1, -2)], 1)
        if self.position is not None:
            x = self.position(x, grid=grid)
        x = self.dropout(x)
        return (x if self.first_norm is None else self.first_norm(x)), grid

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        """Tokens after the last block and norm: `(b, *grid, c)`, or `(b, prefix + n, c)` with class tokens."""
        x, _ = self.embedded(images)
        x = self.blocks(x)
        return x if self.norm is None else self.norm(x)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes"]:
        return self.head(self.tokens(images), prefix=self.num_prefix)

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """Maps `(b, c, *grid)` after the chosen blocks (negative ones count from the end), without class tokens.

        With `layers=None`, one map: after the last block and norm.
        """
        x, grid = self.embedded(images)
        if layers is None:
            x = self.blocks(x)
            outputs = [x if self.norm is None else self.norm(x)]
        else:
            outputs = self.blocks.outputs(x, layers)
        return [channels_first(y.flatten(1, -2)[:, self.num_prefix :].unflatten(1, grid)) for y in outputs]
