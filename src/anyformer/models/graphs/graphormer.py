"""Graphormer: a Transformer over all nodes of a graph, told of its structure by additions to nodes and scores.

Ying et al. 2021, arXiv:2106.05234, sections 3.1 and 3.2; variants as the authors' repository names them, which puts
norms after the branches where the paper has them before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.init import Start, chooses_start, trunc_normal
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec

PAPERS = ("graphormer",)


class Graphormer(Model):
    """Nodes with their distances and the edges on shortest paths to outputs of the graph `(b, num_classes)`.

    A token of the graph's own stands before the nodes, joined to all of them, and is what the head reads. Attention
    costs n^2; shortest paths are found beforehand (`anyformer.data.graphs.collate`), in n^3.

    Args:
        dim, depth, heads: channels, blocks, heads of the attention (also those of the biases).
        block: the block; its token mixer must take a bias of pairs.
        num_classes: outputs; 0 for the graph's token itself.
        node_features, node_values: categorical features of a node, and categories of each.
        edge_features, edge_values: the same of an edge.
        embed: nodes' features to channels.
        centrality, distance, path: encodings of structure; None for none.
        embed_norm, norm: before the first block, behind the last.
        head: from the graph's token to the outputs.
        reach: nodes this many hops apart or more, or without a path, do not see each other; None: all do.
        drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "graphormer"
    papers = ("graphormer",)
    inputs: ClassVar[tuple[str, ...]] = ("nodes", "distances", "paths")

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        block: Spec,
        num_classes: int = 1,
        node_features: int = 9,
        node_values: int = 512,
        edge_features: int = 3,
        edge_values: int = 512,
        embed: Spec = Spec("categories", offset=1),
        centrality: Spec | None = Spec("centrality"),
        distance: Spec | None = Spec("distance_bias"),
        path: Spec | None = Spec("edge_path_bias"),
        embed_norm: Spec | None = Spec("layernorm"),
        norm: Spec | None = None,
        head: Spec = Spec(
            "mlp_classifier", ratio=1.0, pool=Spec("class"), norm=None, act=Spec("gelu"), hidden_norm=Spec("layernorm")
        ),
        reach: int | None = None,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.reach = reach
        self.embed = build(embed, "embed", dim=dim, features=node_features, values=node_values)
        self.token = nn.Parameter(trunc_normal(torch.empty(1, dim)))
        self.centrality = build(centrality, "structure", dim=dim) if centrality is not None else None
        self.distance = build(distance, "structure", heads=heads) if distance is not None else None
        edges = {"features": edge_features, "values": edge_values}
        self.path = build(path, "structure", heads=heads, **edges) if path is not None else None
        self.embed_norm = build(embed_norm, "norm", dim=dim) if embed_norm is not None else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = Stack(block, depth, dim=dim, grid=(None,), drop_path=growing(drop_path, depth), dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.head = build(head, "head", dim=dim, num_classes=num_classes)

    def bias(
        self, distances: Int[Tensor, "b n n"], paths: Int[Tensor, "b n n d g"], valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b h m m"] | None:
        """What is added to the scores between the graph's token and the nodes, m = n + 1; equations 6 and 7."""
        bias = None if self.distance is None else self.distance(distances, valid)
        if self.path is not None:
            along = nn.functional.pad(self.path(paths, distances), (1, 0, 1, 0))
            bias = along if bias is None else bias + along
        if self.reach is not None:
            apart = nn.functional.pad((distances < 0) | (distances >= self.reach), (1, 0, 1, 0))[:, None]
            bias = torch.zeros(apart.shape, device=apart.device) if bias is None else bias
            bias = bias.masked_fill(apart, float("-inf"))
        return bias

    def begin(
        self,
        nodes: Int[Tensor, "b n f"],
        distances: Int[Tensor, "b n n"] | None,
        paths: Int[Tensor, "b n n d g"] | None,
    ) -> tuple[Tensor, Segments, Tensor | None]:
        """Tokens before the first block, which of them are valid, and the bias."""
        valid = nodes[..., 0] >= 0
        if distances is None:  # no edges: every node reaches itself alone
            alone = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
            distances = torch.where(alone, 0, -1).expand(len(nodes), -1, -1)
        if paths is None:
            paths = distances.new_full((*distances.shape, 1, 1), -1)
        x = self.embed(nodes)
        if self.centrality is not None:
            x = x + self.centrality(distances, valid)
        x = torch.cat([self.token.expand(len(x), 1, -1).to(x.dtype), x], 1)
        x = self.dropout(x if self.embed_norm is None else self.embed_norm(x))
        segments = Segments.from_mask(nn.functional.pad(valid, (1, 0), value=True))
        return x, segments, self.bias(distances, paths, valid)

    def tokens(
        self,
        nodes: Int[Tensor, "b n f"],
        distances: Int[Tensor, "b n n"] | None = None,
        paths: Int[Tensor, "b n n d g"] | None = None,
    ) -> Float[Tensor, "b m c"]:
        """The graph's token and the nodes after the last block; padded nodes are zero."""
        x, segments, bias = self.begin(nodes, distances, paths)
        x = self.blocks(x, segments, None, None, bias)
        return segments.zero(x if self.norm is None else self.norm(x))

    def forward(
        self,
        nodes: Int[Tensor, "b n f"],
        distances: Int[Tensor, "b n n"] | None = None,
        paths: Int[Tensor, "b n n d g"] | None = None,
    ) -> Float[Tensor, "b classes"]:
        return self.head(self.tokens(nodes, distances, paths))

    def features(
        self,
        nodes: Int[Tensor, "b n f"],
        distances: Int[Tensor, "b n n"] | None = None,
        paths: Int[Tensor, "b n n d g"] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b m c"]]:
        """Tokens, the graph's first, after the chosen blocks; with `layers=None`, after the last."""
        if layers is None:
            return [self.tokens(nodes, distances, paths)]
        x, segments, bias = self.begin(nodes, distances, paths)
        return self.blocks.outputs(x, layers, segments, None, None, bias)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Rings of `size` nodes (8 unless given) with random features."""
        n = 8 if size is None else size if isinstance(size, int) else size[0]
        nodes = torch.randint(0, self.embed.values, (batch, n, self.embed.features), device=self.device)
        apart = (torch.arange(n)[:, None] - torch.arange(n)).abs()
        distances = torch.minimum(apart, n - apart).to(self.device).expand(batch, n, n).contiguous()
        places, features, values = (1, 1, 1) if self.path is None else (5, len(self.path.first), self.path.values)
        paths = torch.randint(0, values, (batch, n, n, places, features), device=self.device)
        behind = torch.arange(places, device=self.device) >= distances[..., None]
        return nodes, distances, paths.masked_fill(behind[..., None], -1)


def graphormer(dim: int, depth: int, heads: int, *, block: str = "postnorm", dropout: float = 0.1) -> Spec:
    """A Graphormer of the authors' repository; its MLPs are as wide as its tokens."""
    return Spec(
        "graphormer",
        dim=dim,
        depth=depth,
        heads=heads,
        block=Spec(block, mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=1.0)),
        reach=20,
        dropout=dropout,
    )


VARIANTS = {
    "graphormer_slim": graphormer(80, 12, 8),
    "graphormer_base": graphormer(768, 12, 32),
    "graphormer_large": graphormer(1024, 24, 32),
    # Ours, for small graphs and for tests: norms before the branches, as in the paper, and all pairs see each other.
    "graphormer_micro": graphormer(48, 3, 4, block="prenorm", dropout=0.0).set(
        node_features=1,
        node_values=16,
        edge_features=1,
        edge_values=8,
        centrality=Spec("centrality", degrees=34),
        distance=Spec("distance_bias", distances=66),
        path=Spec("edge_path_bias", places=5),
        embed_norm=None,
        norm=Spec("layernorm"),
        reach=None,
        init="fan_in",
    ),
}
