"""Graphs as arrays: one graph, what its structure says, batches of graphs, and graphs that are generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyformer.core.errors import DataError, SizeError

UNREACHABLE = -1
"""The distance of two nodes without a path."""

ABSENT = -1
"""The feature of a node that is padding, of an edge that is none."""


@dataclass(frozen=True)
class Graph:
    """One graph with directed links; an undirected edge is two links.

    Attributes:
        nodes: `(n, f)` int64, categories of each node, from 0.
        links: `(e, 2)` int64, from and to.
        edges: `(e, g)` int64, categories of each link, from 0.
    """

    nodes: NDArray[np.int64]
    links: NDArray[np.int64]
    edges: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.nodes.ndim != 2 or not len(self.nodes):
            raise DataError(f"a graph has one node or more, as an array (n, features); given {self.nodes.shape}.")
        if self.links.ndim != 2 or self.links.shape[1] != 2 or len(self.links) != len(self.edges):
            raise DataError(
                f"links are (e, 2) and edges (e, features) of the same e; given {self.links.shape} and "
                f"{self.edges.shape}."
            )
        if len(self.links) and not (self.links.min() >= 0 and self.links.max() < len(self.nodes)):
            raise DataError(
                f"links name nodes 0 to {len(self.nodes) - 1}; given {self.links.min()} to {self.links.max()}."
            )

    @staticmethod
    def undirected(
        pairs: Sequence[tuple[int, int]] | NDArray[np.int64],
        count: int,
        nodes: NDArray[np.int64] | None = None,
        edges: NDArray[np.int64] | None = None,
    ) -> Graph:
        """A graph of `count` nodes from pairs of neighbours; without features every node and edge is of category 0."""
        ends = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        nodes = np.zeros((count, 1), np.int64) if nodes is None else np.asarray(nodes, np.int64)
        edges = np.zeros((len(ends), 1), np.int64) if edges is None else np.asarray(edges, np.int64)
        return Graph(nodes, np.concatenate([ends, ends[:, ::-1]]), np.concatenate([edges, edges]))

    @property
    def adjacency(self) -> NDArray[np.bool_]:
        """`(n, n)`, true where a link leads from the row to the column."""
        found = np.zeros((len(self.nodes),) * 2, dtype=bool)
        found[self.links[:, 0], self.links[:, 1]] = True
        return found

    def permuted(self, order: NDArray[np.int64]) -> Graph:
        """The same graph with node `order[i]` at place i."""
        place = np.argsort(order)
        return Graph(self.nodes[order], place[self.links], self.edges)


def shortest_paths(graph: Graph, hops: int = 5) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distances `(n, n)` in hops, and the features `(n, n, hops, g)` of the first edges on one shortest path.

    Floyd and Warshall's algorithm with the middle node outermost; of equally short paths the first found stays.
    Distance `UNREACHABLE` where there is no path; features `ABSENT` behind a path's end. Cost: n^3.
    """
    count, far = len(graph.nodes), len(graph.nodes) + 1
    distances = np.where(graph.adjacency, 1, far)
    np.fill_diagonal(distances, 0)
    middle = np.full((count, count), -1)
    for k in range(count):
        through = distances[:, k, None] + distances[None, k, :]
        better = through < distances
        distances, middle = np.where(better, through, distances), np.where(better, k, middle)
    feature = {(int(a), int(b)): edge for (a, b), edge in zip(graph.links, graph.edges, strict=True)}
    paths = np.full((count, count, hops, graph.edges.shape[1]), ABSENT, dtype=np.int64)
    if hops:
        between = middle.tolist()
        for i, j in np.argwhere((distances > 0) & (distances < far)).tolist():
            for place, step in enumerate(_steps(between, i, j)[:hops]):
                paths[i, j, place] = feature[step]
    return np.where(distances >= far, UNREACHABLE, distances), paths


def _steps(middle: list[list[int]], i: int, j: int) -> list[tuple[int, int]]:
    """The links of the path from i to j."""
    k = middle[i][j]
    return [(i, j)] if k < 0 else _steps(middle, i, k) + _steps(middle, k, j)


def laplacian_eigenvectors(
    graph: Graph, count: int, *, short: Literal["raise", "pad"] = "raise"
) -> NDArray[np.float32]:
    """`(n, count)`: eigenvectors of I - D^-1/2 A D^-1/2 with the smallest eigenvalues, the first one left out.

    Signs are arbitrary. Dwivedi and Bresson 2020, arXiv:2012.09699, equation 1. Cost: n^3.

    Args:
        graph: whose links are taken in both directions.
        count: how many.
        short: what to do for a graph of `count` nodes or fewer: raise `SizeError`, or fill up with zeros.
    """
    n = len(graph.nodes)
    if n <= count and short == "raise":
        raise SizeError(
            f"a graph of {n} nodes has {n - 1} eigenvectors beside the first, and {count} are asked for: ask for "
            "fewer, or pass short='pad' to fill up with zeros."
        )
    linked = (graph.adjacency | graph.adjacency.T).astype(np.float64)
    scale = np.maximum(linked.sum(1), 1.0) ** -0.5
    _, vectors = np.linalg.eigh(np.eye(n) - scale[:, None] * linked * scale)
    found = vectors[:, 1 : count + 1].astype(np.float32)
    return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def random_walk_returns(graph: Graph, steps: int) -> NDArray[np.float32]:
    """`(n, steps)`: the chance that a random walk from a node is back there after 1, 2, ... steps.

    Dwivedi et al. 2021, arXiv:2110.07875, section 3.2. Unlike eigenvectors it has no sign to choose. Cost: steps n^3.
    """
    linked = graph.adjacency.astype(np.float64)
    walk = linked / np.maximum(linked.sum(1, keepdims=True), 1.0)
    power, found = np.eye(len(walk)), []
    for _ in range(steps):
        power = power @ walk
        found.append(np.diagonal(power))
    return np.stack(found, 1).astype(np.float32)


def collate(graphs: Sequence[Graph], *, hops: int = 5, positions: int = 0) -> dict[str, Tensor]:
    """A batch of graphs, padded to the largest.

    Args:
        graphs: with as many features each.
        hops: edges of a shortest path that are kept.
        positions: Laplacian eigenvectors of each node; zeros fill up small graphs.

    Returns:
        "nodes" `(b, n, f)`, `ABSENT` where padded; "links" `(b, e, 2)` and "edges" `(b, e, g)`, likewise;
        "distances" `(b, n, n)`, 0 where padded; "paths" `(b, n, n, hops, g)`; "positions" `(b, n, positions)`.
    """
    if not graphs:
        raise DataError("a batch has one graph or more; given none.")
    found = [
        {
            "nodes": g.nodes, "links": g.links, "edges": g.edges,
            "positions": laplacian_eigenvectors(g, positions, short="pad"),
        } | dict(zip(("distances", "paths"), shortest_paths(g, hops), strict=True))
        for g in graphs
    ]  # fmt: skip
    return {name: pad_together([f[name] for f in found], FILL[name]) for name in FILL}


FILL = {"nodes": ABSENT, "links": ABSENT, "edges": ABSENT, "distances": 0, "paths": ABSENT, "positions": 0}
"""What pads each tensor of a batch."""


def pad_together(arrays: Sequence[NDArray], fill: int) -> Tensor:
    """`(b, ...)`: arrays of one rank, each filled up at its ends to the largest of every axis."""
    shape = np.max([a.shape for a in arrays], axis=0)
    batch = np.full((len(arrays), *shape), fill, dtype=arrays[0].dtype)
    for row, array in zip(batch, arrays, strict=True):
        row[tuple(slice(0, n) for n in array.shape)] = array
    return torch.from_numpy(batch)


def unicyclic(cycle: int, count: int, draw: np.random.Generator) -> Graph:
    """A ring of `cycle` nodes with trees grown on it at random, `count` nodes in all, numbered at random."""
    pairs = [(i, (i + 1) % cycle) for i in range(cycle)]
    pairs += [(int(draw.integers(0, i)), i) for i in range(cycle, count)]
    return Graph.undirected(pairs, count).permuted(draw.permutation(count))


def diameter(graph: Graph) -> int:
    """The longest of all shortest paths, in hops; `UNREACHABLE` where a pair has none."""
    distances, _ = shortest_paths(graph, 0)
    return int(distances.max()) if distances.min() >= 0 else UNREACHABLE


def two_blocks(sizes: tuple[int, int], inside: float, between: float, draw: np.random.Generator) -> Graph:
    """A stochastic block model: pairs are linked with one probability inside a block, another between the two."""
    block = np.repeat((0, 1), sizes)
    chance = np.where(block[:, None] == block, inside, between)
    return Graph.undirected(np.argwhere(np.triu(draw.random(chance.shape) < chance, 1)), len(block))
