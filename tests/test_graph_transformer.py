"""Graph Transformer: numbering of nodes, plain attention on complete graphs, hops, cost, eigenvectors, padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import SizeError
from anyformer.core.spec import Spec
from anyformer.data.graphs import Graph, collate, laplacian_eigenvectors, random_walk_returns
from anyformer.kernels.attention import attention_plain
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.sparse.links import attend_along
from parts import stirred
from test_graphormer import drawn

NAMES = ("nodes", "links", "edges", "positions")


def inputs(graphs: list[Graph]) -> list[torch.Tensor]:
    batch = collate(graphs, positions=4)
    return [batch[name] for name in NAMES]


def micro(**options):
    torch.manual_seed(0)
    return stirred(create_model("graph_transformer_micro", **options), 0.05).eval()


def test_numbering_the_nodes_otherwise_numbers_the_outputs_so():
    model = micro(head=Spec("halving_head", pool=None))
    nodes, links, edges, positions = inputs(drawn((9,)))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here = model(nodes, links, edges, positions)
        there = model(nodes[:, order], order.argsort()[links], edges, positions[:, order])
    torch.testing.assert_close(there, here[:, order], rtol=1e-5, atol=1e-5)


def test_a_complete_graph_with_loops_is_standard_attention():
    q, k, v = torch.randn(3, 2, 7, 4, 8, generator=torch.Generator().manual_seed(0))
    links = torch.cartesian_prod(torch.arange(7), torch.arange(7)).expand(2, -1, -1)
    y, products = attend_along(q, k, v, links)
    expected = attention_plain(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
    assert products.sum(-1).abs().max() < 5
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_each_layer_is_one_hop():
    line = Graph.undirected([(i, i + 1) for i in range(7)], 8)
    model = micro()
    nodes, links, edges, _ = inputs([line])
    changed = nodes.clone()
    changed[0, 0] = 3
    with torch.no_grad():
        pairs = zip(*(model.features(n, links, edges, layers=[0, 1, 2]) for n in (nodes, changed)), strict=True)
    for hops, (before, after) in enumerate(pairs, start=1):
        assert ((before - after).abs().amax(-1)[0] > 0).tolist() == [i <= hops for i in range(8)]


def test_cost_grows_with_edges():
    model = micro()
    nodes, links, edges, positions = inputs(drawn((13,)))
    costs = [count_operations(model, nodes, links.repeat(1, r, 1), edges.repeat(1, r, 1), positions) for r in (1, 2, 3)]
    assert costs[0] < costs[1] and costs[2] - costs[1] == costs[1] - costs[0]


def test_padding_changes_nothing():
    graphs = drawn()
    model = micro()
    with torch.no_grad():
        alone = torch.cat([model(*inputs([g])) for g in graphs])
        torch.testing.assert_close(model(*inputs(graphs)), alone, rtol=1e-4, atol=1e-5)


def test_statistics_of_a_batch_leave_padding_out():
    graphs = drawn()
    nodes, links, edges, _ = inputs(graphs)
    wide = [torch.nn.functional.pad(t, (0, 0, 0, 4), value=-1) for t in (nodes, links, edges)]
    with torch.no_grad():
        tight, loose = (micro().train()(*given) for given in ((nodes, links, edges), wide))
    torch.testing.assert_close(tight, loose, rtol=1e-4, atol=1e-5)


def test_signs_of_eigenvectors_are_flipped_in_training_alone():
    position = micro().position
    positions = torch.randn(200, 3, 4)
    assert torch.equal(position(positions), position.linear(positions))
    position.train()
    with torch.no_grad():
        position.linear.weight.copy_(torch.eye(48)[:, :4])
        position.linear.bias.zero_()
    ratio = position(positions)[..., :4] / positions
    assert torch.allclose(ratio.abs(), torch.ones(())) and torch.allclose(ratio, ratio[:, :1].expand_as(ratio))
    assert 0.4 < (ratio > 0).float().mean() < 0.6


def test_eigenvectors_belong_to_the_smallest_eigenvalues():
    graph = drawn((12,))[0]
    linked = graph.adjacency.astype(float)
    scale = np.diag(linked.sum(1) ** -0.5)
    laplacian = np.eye(12) - scale @ linked @ scale
    vectors = laplacian_eigenvectors(graph, 3)
    values = np.diagonal(vectors.T @ laplacian @ vectors)
    np.testing.assert_allclose(laplacian @ vectors, vectors * values, atol=1e-5)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(laplacian)[1:4], atol=1e-5)


def test_a_walk_returns_on_rings_as_it_must():
    hexagon = Graph.undirected([(i, (i + 1) % 6) for i in range(6)], 6)
    np.testing.assert_allclose(random_walk_returns(hexagon, 4), [[0, 0.5, 0, 0.375]] * 6, atol=1e-6)


def test_too_many_eigenvectors_raise_unless_zeros_fill_up():
    triangle = Graph.undirected([(0, 1), (1, 2), (2, 0)], 3)
    with pytest.raises(ValueError, match=r"3 nodes has 2 eigenvectors.*3 are asked for.*short='pad'"):
        laplacian_eigenvectors(triangle, 3)
    assert laplacian_eigenvectors(triangle, 2).shape == (3, 2)
    assert (laplacian_eigenvectors(triangle, 5, short="pad")[:, 2:] == 0).all()
    nodes, links, edges, positions = inputs([triangle])
    with pytest.raises(SizeError, match=r"have 4 eigenvectors here and 3 were given"):
        micro()(nodes, links, edges, positions[..., :3])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("graph_transformer_cluster_lap_bn", 524026), ("graph_transformer_zinc_bn", 588353)],
)
def test_variants_have_the_parameters_that_they_should(name: str, parameters: int):
    assert create_model(name).num_parameters() == parameters
