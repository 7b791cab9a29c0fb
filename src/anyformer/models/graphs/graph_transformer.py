"""The Graph Transformer: attention along the edges of a graph, Laplacian eigenvectors for positions, batch norm.

Dwivedi and Bresson 2020, arXiv:2012.09699, section 2; variants after the configurations of the authors' repository.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.heads import Head
from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec

PAPERS = ("graph_transformer",)


class HalvingHead(Head):
    """Pool, then linear layers that halve the channels, ReLU between, to `(b, num_classes)`.

    With `pool=None` every token has outputs of its own, `(b, n, num_classes)`. With num_classes=0, no layers.

    Args:
        dim: channels.
        num_classes: outputs.
        pool: from tokens to one vector.
        halvings: hidden layers.
    """

    name = "halving_head"
    papers = ("graph_transformer",)

    def __init__(self, dim: int, *, num_classes: int = 1, pool: Spec | None = Spec("mean"), halvings: int = 2):
        super().__init__()
        self.pool = build(pool, "pool", dim=dim) if pool is not None else None
        widths = [dim // 2**i for i in range(halvings + 1)]
        hidden = [linear(a, b) for a, b in itertools.pairwise(widths)]
        self.linears = nn.ModuleList([*hidden, linear(widths[-1], num_classes)] if num_classes else [])

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b *n classes"]:
        x = x if self.pool is None else self.pool(x, segments, prefix)
        for i, layer in enumerate(self.linears):
            x = layer(x if i == 0 else x.relu())
        return x


class GraphTransformer(Model):
    """Nodes, links, features of links and positions of nodes to outputs of the graph, or of each node.

    Cost: linear in nodes and links; positions are found beforehand (`anyformer.data.graphs.collate`), in n^3.

    Args:
        dim, depth, block: channels, blocks; the block, or blocks that alternate.
        num_classes: outputs; 0 for the pooled vector.
        node_features, node_values: categorical features of a node, and categories of each.
        edge_features, edge_values: the same of an edge.
        embed: nodes' features to channels.
        edge_embed: links' features to channels; None where the block has no use for them.
        position: positions of nodes; None for none.
        head: from the nodes to the outputs.
        dropout: share of values dropped in training.
        init: as `Isotropic`'s.
    """

    name = "graph_transformer"
    papers = ("graph_transformer",)
    inputs: ClassVar[tuple[str, ...]] = ("nodes", "links", "edges", "positions")

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        num_classes: int = 1,
        node_features: int = 1,
        node_values: int = 28,
        edge_features: int = 1,
        edge_values: int = 4,
        embed: Spec = Spec("categories"),
        edge_embed: Spec | None = Spec("categories"),
        position: Spec | None = Spec("eigenvectors", count=8),
        head: Spec = Spec("halving_head"),
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.embed = build(embed, "embed", dim=dim, features=node_features, values=node_values)
        self.edge_embed = None
        if edge_embed is not None:
            self.edge_embed = build(edge_embed, "embed", dim=dim, features=edge_features, values=edge_values)
        self.position = build(position, "structure", dim=dim) if position is not None else None
        self.blocks = Stack(block, depth, dim=dim, dropout=dropout)
        self.head = build(head, "head", dim=dim, num_classes=num_classes)

    def begin(
        self, nodes: Tensor, links: Tensor | None, edges: Tensor | None, positions: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor | None], Tensor, Segments]:
        """Nodes and edges before the first block, the links, and which nodes are valid."""
        if links is None:  # nodes without a link
            links = nodes.new_zeros(len(nodes), 0, 2)
        x = self.embed(nodes)
        if self.position is not None and positions is not None:
            x = x + self.position(positions)
        along = None
        if self.edge_embed is not None:
            edges = nodes.new_zeros(*links.shape[:2], self.edge_embed.features) if edges is None else edges
            along = self.edge_embed(edges)
        return (x, along), links, Segments.from_mask(nodes[..., 0] >= 0)

    def streams(
        self,
        nodes: Int[Tensor, "b n f"],
        links: Int[Tensor, "b e 2"] | None = None,
        edges: Int[Tensor, "b e g"] | None = None,
        positions: Float[Tensor, "b n k"] | None = None,
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b e c"] | None]:
        """Nodes and edges after the last block."""
        x, links, segments = self.begin(nodes, links, edges, positions)
        found: tuple = self.blocks(x, links, segments.valid)  # type: ignore[assignment,arg-type]
        return found

    def forward(
        self,
        nodes: Int[Tensor, "b n f"],
        links: Int[Tensor, "b e 2"] | None = None,
        edges: Int[Tensor, "b e g"] | None = None,
        positions: Float[Tensor, "b n k"] | None = None,
    ) -> Float[Tensor, "b *n classes"]:
        x, _ = self.streams(nodes, links, edges, positions)
        return self.head(x, Segments.from_mask(nodes[..., 0] >= 0))

    def features(
        self,
        nodes: Int[Tensor, "b n f"],
        links: Int[Tensor, "b e 2"] | None = None,
        edges: Int[Tensor, "b e g"] | None = None,
        positions: Float[Tensor, "b n k"] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[Float[Tensor, "b n c"]]:
        """Nodes after the chosen blocks; with `layers=None`, after the last. Padded nodes are zero."""
        x, links, segments = self.begin(nodes, links, edges, positions)
        chosen = [-1] if layers is None else layers
        found = self.blocks.outputs(x, chosen, links, segments.valid)  # type: ignore[arg-type]
        return [segments.zero(nodes) for nodes, _ in found]

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Rings of `size` nodes (8 unless given) with random features and positions."""
        n = 8 if size is None else size if isinstance(size, int) else size[0]
        around = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n], -1)
        links = torch.cat([around, around.flip(1)]).to(self.device).expand(batch, -1, -1).contiguous()
        features, values = (1, 1) if self.edge_embed is None else (self.edge_embed.features, self.edge_embed.values)
        nodes = torch.randint(0, self.embed.values, (batch, n, self.embed.features), device=self.device)
        edges = torch.randint(0, values, (batch, 2 * n, features), device=self.device)
        count = 0 if self.position is None else self.position.count
        return nodes, links, edges, torch.randn(batch, n, count, device=self.device)


def graph_transformer(dim: int, values: int, *, norm: str = "batchnorm", positions: int = 8) -> Spec:
    """A Graph Transformer of ten blocks for graphs whose edges have features (ZINC)."""
    return Spec(
        "graph_transformer",
        dim=dim,
        depth=10,
        block=Spec("graph_edge_block", heads=8, norm=Spec(norm)),
        node_values=values,
        position=Spec("eigenvectors", count=positions) if positions else None,
    )


def of_nodes(values: int, num_classes: int, *, norm: str = "batchnorm", positions: int) -> Spec:
    """A Graph Transformer that classifies nodes and knows no features of edges (CLUSTER, PATTERN)."""
    return graph_transformer(80, values, positions=positions).set(
        block=Spec("graph_block", heads=8, norm=Spec(norm)),
        edge_embed=None,
        head=Spec("halving_head", pool=None),
        num_classes=num_classes,
    )


VARIANTS = {
    f"graph_transformer_{data}{'_lap' if lap else ''}_{short}": make(norm=norm, positions=count if lap else 0)
    for data, make, count in (
        ("zinc", lambda **o: graph_transformer(64, 28, **o), 8),
        ("cluster", lambda **o: of_nodes(7, 6, **o), 10),
        ("pattern", lambda **o: of_nodes(3, 2, **o), 2),
    )
    for short, norm in (("bn", "batchnorm"), ("ln", "layernorm"))
    for lap in (True, False)
} | {
    # Ours, for small graphs and for tests. The last block leaves edges as they are: nothing reads them behind it.
    "graph_transformer_micro": Spec(
        "graph_transformer",
        dim=48,
        depth=3,
        block=(*[Spec("graph_edge_block", heads=4)] * 2, Spec("graph_edge_reader", heads=4)),
        node_values=16,
        edge_values=8,
        position=Spec("eigenvectors", count=4),
        init="fan_in",
    )
}
