"""Graph models against the goldens of their references: parameter counts and outputs, through `load_reference`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.data.graphs import Graph, collate
from golden import Golden


def batch_of_two(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The golden's two graphs; the second has pairs without a path, and two places of padding."""
    nodes, edges = inputs["atoms"].numpy() + 1, inputs["bonds"].numpy() + 2
    rings = (
        (9, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (2, 6), (6, 7), (7, 8)]),
        (7, [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (5, 6)]),
    )
    graphs = [Graph.undirected(pairs, n, nodes[i, :n], edges[i, : len(pairs)]) for i, (n, pairs) in enumerate(rings)]
    return collate(graphs, hops=5)


def official_graphormer(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names and numbering: 0 is padding, 511 no path, -100 in place of minus infinity."""
    batch = batch_of_two(inputs)
    nodes, distances, paths = batch["nodes"], batch["distances"], batch["paths"]
    valid = nodes[..., 0] >= 0
    pairs = valid[:, :, None] & valid[:, None, :]
    bias = model.bias(distances, paths, valid)
    seen = torch.nn.functional.pad(valid, (1, 0), value=True)[:, None, None]
    tokens = model.tokens(nodes, distances, paths)
    return {
        "spatial_pos": torch.where(distances < 0, 511, distances + 1) * pairs,
        "in_degree": ((distances == 1) & pairs).sum(1) + valid,
        "edge_input": torch.where(paths < 0, 0, paths + model.path.first),
        "attn_bias_inf_as_-100": bias.masked_fill(~seen, -torch.inf).nan_to_num(neginf=-100.0),
        "graph_rep": tokens[:, 0],
        "node_states": tokens,
        "logits": model(nodes, distances, paths),
    }


def official_graph_transformer(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names; one graph, whose edges repeat and loop."""
    nodes, edges, positions = inputs["h"][None, :, None], inputs["e"][None, :, None], inputs["pos"][None]
    links = torch.stack([inputs["src"], inputs["dst"]], -1)[None]
    score, found = model(nodes, links, edges, positions, taps=["blocks.0", "blocks.9"])
    streams = {f"layer{i}.{n}": found[f"blocks.{i}"][j][0] for i in (0, 9) for j, n in enumerate("he")}
    return {"score": score} | streams


POOLER = 80 * 80 + 80
"""Parameters of a pooler that the reference holds and does not use."""

CASES = {  # golden: (name for create_model, options, outputs, parameters that only the reference holds)
    "graphormer--graphormer_slim--official": ("official:graphormer_slim", {}, official_graphormer, POOLER),
    "graph_transformer--graph_transformer_zinc_lap_bn--official": (
        "official:graph_transformer_zinc_lap_bn",
        {},
        official_graph_transformer,
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, outputs, unused = CASES[name]
    Golden(name).hold(create_model(ours, **options), outputs, idle=unused)
