"""Images in groups of patches, with latents of each group, through interleaved local and global layers (FIT)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.interleaved import NORM, Interleaved, attending, learned
from anyformer.blocks.model import ImageModel, sides
from anyformer.core.build import build
from anyformer.core.errors import SizeError, by
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Tiling, plan, tile, untile


class GroupedImages(nn.Module):
    """Images `(b, in_channels, *size)` to tokens `(b, *grid, dim)` and latents `(b, groups, latents, latent_dim)`.

    Patches are cut into groups of `group` along each axis; all groups share one table of positions, and each of their
    latents starts from a learned vector of its own. Chen and Li 2023 (FIT), arXiv:2305.12689, section 2.

    Args:
        dim, latent_dim: channels of tokens and of latents.
        layers: local layers in brackets and global ones behind them, such as "(2)4(2)".
        patch: side of a patch.
        group: patches along each axis of a group.
        latents: of each group; 0 for local layers alone.
        heads, latent_heads: of local and global layers; exchanges have the fewer.
        ratio: hidden channels per channel.
        condition: channels of tokens that the latents read; 0 for none.
        image_size, in_channels, drop_path, dropout: as `Isotropic`'s.

    Raises:
        SizeError: an image that is not made of whole groups, or not of as many as it was built for.
        OptionError: another notation of layers.
    """

    def __init__(
        self,
        dim: int,
        latent_dim: int,
        *,
        layers: str,
        patch: int,
        group: int,
        latents: int,
        heads: int,
        latent_heads: int,
        ratio: float,
        image_size: Sequence[int],
        in_channels: int,
        condition: int = 0,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        rank = len(image_size)
        self.patch, self.group = patch, (group,) * rank
        embed = Spec("patch", size=patch, norm=NORM, rest="refuse")
        self.embed = build(embed, "embed", dim=dim, in_channels=in_channels, rank=rank)
        self.grid = self.embed.grid(image_size)
        groups, size = math.prod(self.tiling(self.grid).tiles), group**rank
        self.position = learned(size, dim)
        self.latents = learned(groups, latents, latent_dim)
        self.layers = Interleaved(
            dim, latent_dim, layers=layers, groups=groups, size=size, latents=latents, local=attending(heads, ratio),
            globally=attending(latent_heads, ratio), heads=min(heads, latent_heads), condition=condition,
            drop_path=drop_path, dropout=dropout,
        )  # fmt: skip
        self.norm = build(NORM, "norm", dim=dim)

    def tiling(self, grid: Sequence[int]) -> Tiling:
        """How groups tile a grid of this size. Raises `SizeError` where they do not divide it."""
        return plan(grid, self.group, (0,) * len(self.group), rest="refuse")

    def forward(
        self,
        images: Float[Tensor, "b i *size"],
        condition: Float[Tensor, "b s e"] | None = None,
        more: Float[Tensor, "b t m d"] | None = None,
    ) -> tuple[Float[Tensor, "b *grid c"], Float[Tensor, "b t m d"]]:
        """`condition` is what latents read beside their group; `more` is added to the vectors that they start from."""
        x = self.embed(images)
        grid = tuple(x.shape[1:-1])
        if grid != self.grid:
            given, built = (by(side * self.patch for side in g) for g in (grid, self.grid))
            raise SizeError(
                f"this FIT was built for images of {built}, as each of its groups has latents of its own; given "
                f"{given}: build it with the image_size of your images."
            )
        tiling = self.tiling(grid)
        latents = self.latents.expand(len(x), -1, -1, -1)
        latents = latents if more is None else latents + more
        y, latents = self.layers(tile(x, tiling) + self.position, latents, condition)
        return self.norm(untile(y, tiling)), latents


class FITImages(ImageModel):
    """A model of images with FIT's trunk, `groups`; what becomes of its tokens is the subclass's.

    Args:
        dim, latent_dim, layers, patch, group, latents, heads, latent_heads, ratio: as `GroupedImages`'s.
        image_size, in_channels, drop_path, dropout: as `Isotropic`'s.
    """

    groups: GroupedImages
    conditioned = False
    """Whether latents read tokens of `latent_dim` channels before each global part."""

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
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        self.groups = GroupedImages(
            dim, latent_dim, layers=layers, patch=patch, group=group, latents=latents, heads=heads,
            latent_heads=latent_heads, ratio=ratio, image_size=self.image_size, in_channels=in_channels,
            condition=latent_dim if self.conditioned else 0, drop_path=drop_path, dropout=dropout,
        )  # fmt: skip
