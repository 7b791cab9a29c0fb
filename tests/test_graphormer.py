"""Graphormer: numbering of nodes, plain attention without encodings, shortest paths, padding, means of neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, SizeError
from anyformer.core.spec import Spec
from anyformer.data.graphs import Graph, collate, diameter, shortest_paths, unicyclic
from parts import stirred


def drawn(sizes: tuple[int, ...] = (9, 13, 6), seed: int = 0) -> list[Graph]:
    """Graphs of these sizes with random features."""
    draw = np.random.default_rng(seed)
    made = []
    for size in sizes:
        g = unicyclic(4, size, draw)
        half = draw.integers(0, 8, (len(g.links) // 2, 1))
        made.append(Graph(draw.integers(0, 16, (size, 1)), g.links, np.concatenate([half, half])))
    return made


def inputs(graphs: list[Graph], **options) -> list[torch.Tensor]:
    batch = collate(graphs, **options)
    return [batch[name] for name in ("nodes", "distances", "paths")]


def micro(**options):
    torch.manual_seed(0)
    return stirred(create_model("graphormer_micro", **options), 0.05).eval()


def test_numbering_the_nodes_otherwise_changes_no_output():
    # Of several shortest paths one is taken, by number: with trees there is only one.
    draw = np.random.default_rng(0)
    tree = Graph.undirected([(0, 1), (1, 2), (1, 3), (3, 4), (3, 5), (5, 6)], 7, draw.integers(0, 16, (7, 1)))
    order = draw.permutation(7)
    model = micro()
    with torch.no_grad():
        here, there = model.tokens(*inputs([tree])), model.tokens(*inputs([tree.permuted(order)]))
    torch.testing.assert_close(there[:, 0], here[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(there[:, 1:], here[:, 1:][:, order], rtol=1e-5, atol=1e-5)


def test_tables_of_zeros_are_plain_attention():
    model, plain = micro(), micro(centrality=None, distance=None, path=None)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    batch = inputs(drawn())
    with torch.no_grad():
        assert not torch.allclose(model(*batch), plain(*batch), atol=1e-3)
        for table in (*model.centrality.parameters(), *model.distance.parameters(), *model.path.parameters()):
            table.zero_()
        torch.testing.assert_close(model(*batch), plain(*batch), rtol=1e-6, atol=1e-6)


def test_distances_are_the_shortest_and_paths_lead_along_edges():
    draw = np.random.default_rng(3)
    directed = Graph(np.zeros((8, 1), np.int64), draw.integers(0, 8, (11, 2)), draw.integers(0, 9, (11, 1)))
    for graph in (*drawn(), directed):
        distances, paths = shortest_paths(graph, hops=4)
        n, reached = len(graph.nodes), np.eye(len(graph.nodes), dtype=bool)
        expected = np.where(reached, 0, -1)
        for hop in range(1, n):
            reached = reached | (reached @ graph.adjacency)
            expected = np.where((expected < 0) & reached, hop, expected)
        assert (distances == expected).all()
        on_path = (paths[..., 0] >= 0).sum(-1)
        assert (on_path == np.clip(distances, 0, 4)).all()
        features = {tuple(link): int(edge[0]) for link, edge in zip(graph.links, graph.edges, strict=True)}
        for i, j in np.argwhere(distances == 1):
            assert paths[i, j, 0, 0] == features[i, j]


def test_padding_gets_no_attention_and_changes_nothing():
    model = micro()
    graphs = drawn()
    with torch.no_grad():
        together, taps = model(*inputs(graphs), taps="attention")
        alone = torch.cat([model(*inputs([g])) for g in graphs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    for weights in taps.values():
        for row, graph in zip(weights, graphs, strict=True):
            assert (row[:, :, 1 + len(graph.nodes) :] == 0).all()
            assert row[:, : 1 + len(graph.nodes)].sum(-1).allclose(torch.ones(()))


def test_chosen_weights_are_the_mean_of_neighbours():
    """Section 3.3: with no bias at distance 1 and minus infinity elsewhere, attention is a GNN's mean aggregation."""
    model = create_model("graphormer_micro", path=None, centrality=None).eval()
    graph = drawn((10,))[0]
    batch = collate([graph])
    mixer = model.blocks[0].mixer
    c = mixer.out.in_features
    with torch.no_grad():
        model.distance.table.fill_(-torch.inf)
        model.distance.table[2] = 0.0
        model.distance.token.zero_()
        mixer.qkv.weight.zero_()
        mixer.qkv.weight[2 * c :] = torch.eye(c)
        mixer.out.weight.copy_(torch.eye(c))
        bias = model.bias(batch["distances"], batch["paths"], batch["nodes"][..., 0] >= 0)
        bias[:, :, 1:, 0] = -torch.inf
        x = torch.randn(1, 11, c)
        y = mixer(x, None, bias=bias)[0, 1:]
    linked = torch.from_numpy(graph.adjacency).float()
    torch.testing.assert_close(y, linked @ x[0, 1:] / linked.sum(1, keepdim=True), rtol=1e-5, atol=1e-6)


def test_what_lies_beyond_a_table_raises_unless_it_is_clamped():
    line = Graph.undirected([(i, i + 1) for i in range(9)], 10)
    star = Graph.undirected([(0, i) for i in range(1, 9)], 9)
    far, near = Spec("distance_bias", distances=8), Spec("centrality", degrees=6)
    for option, graph, what in (({"distance": far}, line, "distances"), ({"centrality": near}, star, "degrees")):
        with pytest.raises(SizeError, match=rf"table of {what} ends at .*beyond='clamp'"):
            micro(**option)(*inputs([graph]))
        ((slot, spec),) = option.items()
        assert micro(**{slot: spec.set(beyond="clamp")})(*inputs([graph])).isfinite().all()


def test_mistakes_are_named():
    with pytest.raises(FitError, match=r"pooling has no place for that.*pair_bias"):
        create_model("graphormer_micro", mixer="pooling")(*inputs(drawn()))
    with pytest.raises(DataError, match=r"categories 0 to 15; given 20"):
        micro()(torch.full((1, 3, 1), 20))
    with pytest.raises(DataError, match=r"links name nodes 0 to 2; given 0 to 3"):
        Graph.undirected([(0, 3)], 3)


def test_nodes_out_of_reach_do_not_see_each_other():
    line = Graph.undirected([(0, 1), (1, 2), (2, 3)], 5)
    _, taps = micro(reach=2)(*inputs([line]), taps="blocks.0.mixer.attention")
    seen = taps["blocks.0.mixer.attention"][0, 0, 1:, 1:] > 0
    expected = torch.from_numpy(line.adjacency) | torch.eye(5, dtype=torch.bool)
    assert torch.equal(seen, expected)
    assert diameter(line) == -1
