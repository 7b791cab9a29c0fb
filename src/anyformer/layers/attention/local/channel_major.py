"""Neighborhood attention over a map that is read in another order than it is stored in, as some weights need it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.segments import Segments
from anyformer.layers.attention.local.neighborhood import NeighborhoodAttention


def channel_major(x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
    """The map's numbers with channels first, cut into tokens as if channels came last.

    A "token" is then c neighbouring places of one channel. MedViT V2's published code reshapes maps `(b, c, h, w)` to
    `(b, h, w, c)` where the paper's equations ask for a transposition; its weights are trained so.
    """
    return x.movedim(-1, 1).reshape(x.shape)


def channels_last(x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
    """The inverse of `channel_major`."""
    return x.reshape(len(x), x.shape[-1], *x.shape[1:-1]).movedim(1, -1)


class ChannelMajorNeighborhood(NeighborhoodAttention):
    """`NeighborhoodAttention` over a map that is read as if its channels came last while they come first.

    As in MedViT V2's published code and weights (arXiv:2502.13693); see `channel_major`. Neighbours are places of other
    channels rather than of the image, so that every token depends on the whole map. Arguments as
    `NeighborhoodAttention`'s; tokens that `segments` calls padding count as zero.
    """

    name = "channel_major_neighborhood"
    papers = ("medvit_v2",)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        return channels_last(super().forward(channel_major(x)))
