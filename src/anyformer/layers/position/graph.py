"""Where a node stands in its graph: by its degree, by shortest paths, and by the edges on them.

Ying et al. 2021 (Graphormer), arXiv:2106.05234, section 3.1.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.core.init import linear, trunc_normal
from anyformer.core.part import Part

Beyond = Literal["raise", "clamp"]
"""What becomes of a number beyond a table: `SizeError`, or the table's last row."""


def rows(index: Tensor, size: int, what: str, beyond: Beyond) -> Tensor:
    """Rows of a table of `size` rows; what lies beyond it raises or takes the last row."""
    if beyond == "clamp":
        return index.clamp(max=size - 1)
    if not torch.compiler.is_compiling() and index.numel() and int(index.max()) >= size:
        raise SizeError(
            f"the table of {what} ends at {size - 2} and the graph has {int(index.max()) - 1}: build the model with a "
            "larger table, or with beyond='clamp' to let the last row stand for all beyond."
        )
    return index


class Centrality(Part):
    """z_in[in-degree] + z_out[out-degree], to be added to each node (equation 5).

    Args:
        dim: channels.
        degrees: rows of each table; the first is padding's, so degrees go to `degrees - 2`.
        beyond: what becomes of a larger degree.
    """

    name = "centrality"
    kind = "structure"
    papers = ("graphormer",)

    def __init__(self, dim: int, *, degrees: int = 512, beyond: Beyond = "raise"):
        super().__init__()
        self.beyond: Beyond = beyond
        self.into = nn.Parameter(trunc_normal(torch.empty(degrees, dim)))
        self.out = nn.Parameter(trunc_normal(torch.empty(degrees, dim)))

    def forward(self, distances: Int[Tensor, "b n n"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """Degrees are read off the pairs at distance 1: links of a node to itself do not count."""
        near = (distances == 1) & valid[:, :, None] & valid[:, None, :]
        into, out = ((near.sum(axis) + 1) * valid for axis in (1, 2))
        size = len(self.into)
        return self.into[rows(into, size, "degrees", self.beyond)] + self.out[rows(out, size, "degrees", self.beyond)]


class DistanceBias(Part):
    """A learned bias of each head for each number of hops between two nodes (equation 6).

    The first token is the graph's own: it is joined to all nodes, with an entry of its own.

    Args:
        heads: of the attention.
        distances: rows of the table: the first is padding's, the last that of pairs without a path.
        beyond: what becomes of a larger distance.
    """

    name = "distance_bias"
    kind = "structure"
    papers = ("graphormer",)
    tiny = {"heads": 2}

    def __init__(self, heads: int, *, distances: int = 512, beyond: Beyond = "raise"):
        super().__init__()
        self.beyond: Beyond = beyond
        self.table = nn.Parameter(trunc_normal(torch.empty(distances, heads)))
        self.token = nn.Parameter(trunc_normal(torch.empty(1, heads)))

    def forward(self, distances: Int[Tensor, "b n n"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b h m m"]:
        """`m` is n + 1, the graph's token first. `distances` are hops, negative where there is no path."""
        last = len(self.table) - 1
        reached = rows(distances + 1, last, "distances", self.beyond)
        index = torch.where(distances < 0, last, reached) * (valid[:, :, None] & valid[:, None, :])
        bias = nn.functional.pad(self.table[index].permute(0, 3, 1, 2), (1, 0, 1, 0))
        border = torch.zeros(bias.shape[-2:], dtype=torch.bool, device=bias.device)
        border[0], border[:, 0] = True, True
        return bias + self.token.view(-1, 1, 1) * border


class EdgePathBias(Part):
    """The mean, over the edges of a shortest path, of their features times weights of their place (equation 7).

    Each place has a matrix that mixes heads, as in the authors' code.

    Args:
        heads: of the attention.
        features, values: categorical features of an edge, and categories of each.
        places: matrices; longer paths are read up to there.
    """

    name = "edge_path_bias"
    kind = "structure"
    papers = ("graphormer",)
    tiny = {"heads": 2}

    def __init__(self, heads: int, *, features: int = 3, values: int = 512, places: int = 128):
        super().__init__()
        self.values = values
        # The first row stands for no edge.
        self.table = nn.Parameter(trunc_normal(torch.empty(1 + features * values, heads)))
        self.weight = nn.Parameter(trunc_normal(torch.empty(places, heads, heads)))
        self.first: Tensor
        self.register_buffer("first", 1 + values * torch.arange(features), persistent=False)

    def forward(self, paths: Int[Tensor, "b n n d g"], distances: Int[Tensor, "b n n"]) -> Float[Tensor, "b h n n"]:
        """`paths` are the features of the edges on each path, negative behind its end."""
        places = min(paths.shape[-2], len(self.weight))
        paths = paths[..., :places, :]
        index = torch.where(paths < 0, 0, paths + self.first)
        edges = self.table[rows(index, len(self.table), "features of edges", "raise")].mean(-2)
        mixed = torch.einsum("bijdh,dhk->bijk", edges, self.weight[:places])
        length = torch.where(distances < 0, places, distances).clamp(1, max(places, 1))
        return (mixed / length[..., None]).permute(0, 3, 1, 2)


class EigenvectorPosition(Part):
    """A linear layer of the eigenvectors of a graph's Laplacian, to be added to each node.

    In training the sign of every eigenvector is flipped at random for each graph, as it is arbitrary. Dwivedi and
    Bresson 2020, arXiv:2012.09699, equation 2.

    Args:
        dim: channels.
        count: eigenvectors.
    """

    name = "eigenvectors"
    kind = "structure"
    papers = ("graph_transformer",)

    def __init__(self, dim: int, *, count: int = 8):
        super().__init__()
        self.count = count
        self.linear = linear(count, dim)

    def forward(self, positions: Float[Tensor, "b n k"]) -> Float[Tensor, "b n c"]:
        if positions.shape[-1] != self.count:
            raise SizeError(
                f"nodes have {self.count} eigenvectors here and {positions.shape[-1]} were given: "
                f"collate(graphs, positions={self.count}) finds them."
            )
        if self.training:
            signs = torch.randint(0, 2, (len(positions), 1, self.count), device=positions.device)
            positions = positions * (2 * signs - 1)
        return self.linear(positions)
