"""Blocks of detectors: an image's tokens among themselves, and object queries that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.block import Block, Place
from anyformer.core.errors import SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.positioned import PositionedAttention
from anyformer.layers.attention.sparse.deformable import DeformableAttention


class Memory(NamedTuple):
    """What queries look at.

    Attributes:
        tokens: `(b, m, c)`, of one map or of several.
        position: their positions `(#b, m, c)`, for attention that adds them.
        valid: `(b, m)`, false at padding.
        grids: rows and columns of each map, for attention that samples them.
        reference: where each query looks on each map, boxes `(b, n, maps, 4)` as shares of the map.
    """

    tokens: Tensor
    position: Tensor | None = None
    valid: Tensor | None = None
    grids: Sequence[tuple[int, int]] = ()
    reference: Tensor | None = None


def attention(dim: int, heads: int, dropout: float) -> PositionedAttention:
    """Attention with positions, whose weights are dropped at this rate in training."""
    return PositionedAttention(dim, heads=heads, scoring=Spec("softmax", dropout=float(dropout)))


class DetectionBlock(Block):
    """What blocks of detectors have in common: attention among their tokens, then a channel mixer, normed sums.

    Args:
        dim: channels.
        heads: of the attention.
        ffn: channel mixer.
        norm: behind each branch.
        residual: how a branch joins the stream.
        grid, layer, layers, drop_path, dropout: as `TwoBranch`'s; attention weights are dropped as branches are.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 8,
        ffn: Spec = Spec("mlp", act=Spec("relu")),
        norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        grid: Sequence[int | None] | None = None,
        layer: int = 0,
        layers: int = 1,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.place = place = Place(dim, grid, layer=layer, layers=layers, drop_path=drop_path, dropout=dropout)
        self.attention = attention(dim, heads, dropout)
        self.norm1, self.norm2 = (place.build(norm, "norm") for _ in range(2))
        self.residual1, self.residual2 = (place.build(residual, "residual") for _ in range(2))
        self.ffn = place.build(ffn, "ffn")


class DetectionEncoderBlock(DetectionBlock):
    """norm(x + attention), norm(x + ffn), with positions added to queries and keys in every block.

    Carion et al. 2020 (DETR), arXiv:2005.12872, appendix A.3. Arguments as `DetectionBlock`'s.
    """

    name = "detection_encoder"
    papers = ("group_detr",)

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        position: Float[Tensor, "#b n c"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        valid = None if segments is None else segments.flat().valid
        tokens = self.norm1(self.residual1(tokens, self.attention(tokens, tokens, position, position, valid)))
        return self.norm2(self.residual2(tokens, self.ffn(tokens))).view_as(x)


class QueryBlock(DetectionBlock):
    """norm(x + self-attention), norm(x + cross-attention), norm(x + ffn) of object queries `(b, n, c)`.

    Carion et al. 2020 (DETR), arXiv:2005.12872, appendix A.3. With `groups`, queries of a group see their own group
    only, in the batch axis: Chen et al. 2022 (Group DETR), arXiv:2207.13085, section 3.2. The memory is common.
    Arguments as `DetectionBlock`'s; what inherits says by `cross` how queries look at the memory.
    """

    cross: nn.Module

    def __init__(
        self,
        dim: int,
        *,
        norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        **options: Any,
    ):
        super().__init__(dim, norm=norm, residual=residual, **options)
        self.norm_cross, self.residual_cross = self.place.build(norm, "norm"), self.place.build(residual, "residual")

    def look(self, x: Float[Tensor, "b n c"], position: Tensor | None, memory: Memory) -> Float[Tensor, "b n c"]:
        """What the queries take from the memory."""
        raise NotImplementedError

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        position: Float[Tensor, "#b n c"] | None = None,
        memory: Memory | None = None,
        groups: int = 1,
    ) -> Float[Tensor, "b n c"]:
        if memory is None:
            raise SizeError(f"{self.name} looks at an image's tokens: give memory=Memory(tokens).")
        x = self.norm1(self.residual1(x, self.among(x, position, groups)))
        x = self.norm_cross(self.residual_cross(x, self.look(x, position, memory)))
        return self.norm2(self.residual2(x, self.ffn(x)))

    def among(self, x: Float[Tensor, "b n c"], position: Tensor | None, groups: int) -> Float[Tensor, "b n c"]:
        """Self-attention inside each group."""
        if x.shape[1] % groups:
            raise SizeError(
                f"queries come in groups of the same size: {x.shape[1]} queries are no {groups} groups; "
                f"take a multiple of {groups}."
            )
        apart = x.unflatten(1, (groups, -1)).flatten(0, 1)
        if position is not None:
            position = position.expand_as(x).unflatten(1, (groups, -1)).flatten(0, 1)
        return self.attention(apart, apart, position, position).unflatten(0, (-1, groups)).flatten(1, 2)


class DetectionDecoderBlock(QueryBlock):
    """Object queries that attend among themselves and to all tokens of an image.

    Carion et al. 2020 (DETR), arXiv:2005.12872, appendix A.3. Cost: groups (n / groups)^2 c + n m c for the
    attentions. Arguments as `DetectionBlock`'s.
    """

    name = "detection_decoder"
    papers = ("group_detr",)

    def __init__(self, dim: int, *, heads: int = 8, dropout: float = 0.0, **options: Any):
        cross = attention(dim, heads, dropout)
        super().__init__(dim, heads=heads, dropout=dropout, **options)
        self.cross = cross

    def look(self, x: Float[Tensor, "b n c"], position: Tensor | None, memory: Memory) -> Float[Tensor, "b n c"]:
        return self.cross(x, memory.tokens, position, memory.position, memory.valid)


class DeformableDecoderBlock(QueryBlock):
    """Object queries that attend among themselves and sample the maps around the boxes that they are responsible for.

    Zhu et al. 2020 (Deformable DETR), arXiv:2010.04159, section 4.1. Cost: groups (n / groups)^2 c for the
    self-attention; see `DeformableAttention` for the other.

    Args:
        cross_heads: heads that sample.
        levels, points: maps, and places that a head samples on each.
        dim, heads, ffn, norm, residual, grid, layer, layers, drop_path, dropout: as `DetectionBlock`'s.
    """

    name = "deformable_decoder"
    papers = ("group_detr",)

    def __init__(self, dim: int, *, cross_heads: int = 16, levels: int = 1, points: int = 4, **options: Any):
        cross = DeformableAttention(dim, heads=cross_heads, levels=levels, points=points)
        super().__init__(dim, **options)
        self.cross = cross

    def look(self, x: Float[Tensor, "b n c"], position: Tensor | None, memory: Memory) -> Float[Tensor, "b n c"]:
        if memory.reference is None:
            raise SizeError(f"{self.name} samples maps around boxes: give Memory(tokens, grids=..., reference=...).")
        queries = x if position is None else x + position
        return self.cross(queries, memory.tokens, memory.reference, memory.grids, memory.valid)
