"""Blocks of attention along the links of a graph, with and without features of the links.

Dwivedi and Bresson 2020, arXiv:2012.09699, section 2.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.blocks.block import Block
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.init import linear
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV
from anyformer.layers.attention.sparse.links import attend_along


def normed(norm: nn.Module, x: Float[Tensor, "b n c"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """The norm of what is not padding: statistics of a batch are taken over that alone."""
    if not norm.training or getattr(norm, "per_token", False) or not bool(valid.any()):
        return norm(x)
    return torch.zeros_like(x).masked_scatter(valid[..., None], norm(x[valid][None])[0].to(x.dtype))


class GraphBlock(Block):
    """norm(x + attention along links), then norm(x + ffn(x)); edges have no features. Equations 3 to 8.

    Args:
        dim, heads: channels, heads.
        ffn, norm: channel mixer and norm of both branches.
        dropout: share of values dropped in training, of each branch.
    """

    name = "graph_block"
    papers = ("graph_transformer",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        ffn: Spec = Spec("mlp", ratio=2.0, act=Spec("relu")),
        norm: Spec = Spec("batchnorm"),
        dropout: float = 0.0,
    ):
        super().__init__()
        self.qkv = QKV(dim, heads=heads, bias=False, part=self.name)
        self.out = linear(dim, dim)
        self.norm1, self.norm2 = (build(norm, "norm", dim=dim) for _ in range(2))
        self.ffn = build(ffn, "ffn", dim=dim)
        self.dropout = nn.Dropout(dropout)

    def mix(
        self, x: Float[Tensor, "b n c"], links: Int[Tensor, "b e 2"], factors: Float[Tensor, "b e c"] | None = None
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"]]:
        """What attention finds for each node, and the products of each link's ends."""
        q, k, v = (t.transpose(1, 2) for t in self.qkv(x))
        shared = None if factors is None else factors.unflatten(-1, q.shape[2:])
        found, products = attend_along(q, k, v, links, shared)
        return found.flatten(2), products.flatten(2)

    def forward(
        self,
        x: tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"] | None],
        links: Int[Tensor, "b e 2"],
        valid: Bool[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"] | None]:
        nodes, edges = x
        found, _ = self.mix(nodes, links)
        nodes = self.joined(nodes, found, valid)
        return nodes, edges

    def joined(self, x: Tensor, found: Tensor, valid: Tensor) -> Tensor:
        """Both residuals of the nodes."""
        x = normed(self.norm1, x + self.out(self.dropout(found)), valid)
        return normed(self.norm2, x + self.dropout(self.ffn(x)), valid)


class GraphEdgeReader(GraphBlock):
    """`GraphBlock` for edges with features, which scale the scores and stay as they are; for a last block. Eq. 9."""

    name = "graph_edge_reader"
    papers = ("graph_transformer",)

    def __init__(self, dim: int, **options: Any):
        super().__init__(dim, **options)
        self.factors = linear(dim, dim, bias=False)

    def forward(
        self,
        x: tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"] | None],
        links: Int[Tensor, "b e 2"],
        valid: Bool[Tensor, "b n"],
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"] | None]:
        nodes, edges = x
        if edges is None:
            raise FitError(
                f"{self.name} reads features of edges: build the model with edge_embed, or take graph_block."
            )
        found, products = self.mix(nodes, links, self.factors(edges))
        return self.joined(nodes, found, valid), self.updated(edges, products, links[..., 0] >= 0)

    def updated(self, edges: Tensor, products: Tensor, real: Tensor) -> Tensor:
        """The edges behind this block."""
        return edges


class GraphEdgeBlock(GraphEdgeReader):
    """`GraphEdgeReader` that also updates the edges, from the products of queries and keys. Equations 9 to 18."""

    name = "graph_edge_block"
    papers = ("graph_transformer",)

    def __init__(
        self,
        dim: int,
        *,
        ffn: Spec = Spec("mlp", ratio=2.0, act=Spec("relu")),
        norm: Spec = Spec("batchnorm"),
        **options: Any,
    ):
        super().__init__(dim, ffn=ffn, norm=norm, **options)
        self.edge_out = linear(dim, dim)
        self.edge_norm1, self.edge_norm2 = (build(norm, "norm", dim=dim) for _ in range(2))
        self.edge_ffn = build(ffn, "ffn", dim=dim)

    def updated(self, edges: Tensor, products: Tensor, real: Tensor) -> Tensor:
        edges = normed(self.edge_norm1, edges + self.edge_out(self.dropout(products)), real)
        return normed(self.edge_norm2, edges + self.dropout(self.edge_ffn(edges)), real)
