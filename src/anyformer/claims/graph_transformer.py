"""Graph Transformer: Laplacian eigenvectors tell apart what attention along edges alone cannot.

Graphs without features. First: is it two triangles or one hexagon, where every node looks the same to its neighbours?
Second: which nodes of a random graph of two blocks belong together? There labels count up to exchanging the blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.spec import Spec
from anyformer.data.graphs import Graph, collate, two_blocks
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="Laplacian eigenvectors as positions tell a graph's Transformer what its neighbourhoods alone do not.",
    baseline="The same Graph Transformer without positions, trained on the same graphs; both try two learning rates.",
    expect=(
        Expect("rings_gain", at_least=10.0, unit="points of accuracy"),
        Expect("blocks_gain", at_least=10.0, unit="points of accuracy"),
    ),
    seeds=(0, 1),
)
COUNT, BATCH, RATES, POSITIONS = 400, 32, (1e-3, 3e-3), 3
STEPS = {"rings": 150, "blocks": 250}
TRIANGLES = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
HEXAGON = [(i, (i + 1) % 6) for i in range(6)]
BLOCK = 8
Data = tuple[dict[str, Tensor], Tensor]


def rings(draw: np.random.Generator) -> Data:
    """Triangles (0) or a hexagon (1), numbered at random."""
    labels = draw.integers(0, 2, COUNT)
    made = [Graph.undirected(HEXAGON if k else TRIANGLES, 6).permuted(draw.permutation(6)) for k in labels]
    return collate(made, hops=0, positions=POSITIONS), torch.from_numpy(labels)


def blocks(draw: np.random.Generator) -> Data:
    """Two blocks of eight nodes, numbered at random; labels `(count, 16)` are each node's block."""
    made, labels = [], []
    for _ in range(COUNT):
        order = draw.permutation(2 * BLOCK)
        made.append(two_blocks((BLOCK, BLOCK), 0.7, 0.1, draw).permuted(order))
        labels.append(order >= BLOCK)
    return collate(made, hops=0, positions=POSITIONS), torch.from_numpy(np.stack(labels)).long()


def of_graphs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and share of graphs that are right."""
    return F.cross_entropy(logits, labels), (logits.argmax(-1) == labels).float().mean()


def of_nodes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and share of nodes that are right, each graph under the better of both names of its blocks."""
    names = torch.stack([labels, 1 - labels])
    losses = torch.stack([F.cross_entropy(logits.transpose(1, 2), n, reduction="none").mean(1) for n in names])
    right = (logits.argmax(-1) == names).float().mean(2)
    return losses.amin(0).mean(), right.amax(0).mean()


Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def inputs(data: dict[str, Tensor], chosen: Tensor) -> list[Tensor]:
    return [data[name][chosen] for name in ("nodes", "links", "edges", "positions")]


def accuracy(position: Spec | None, what: str, score: Score, rate: float, seed: int, parts: list[Data]) -> list[float]:
    """Accuracy in percent on the parts to choose by and to test on, after training on the first."""
    torch.manual_seed(seed)
    pool = {"head": Spec("halving_head", pool=None)} if what == "blocks" else {}
    model = create_model("graph_transformer_micro", position=position, num_classes=2, **pool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    data, labels = parts[0]
    for _ in range(STEPS[what]):
        chosen = torch.randint(0, COUNT, (BATCH,))
        loss, _ = score(model(*inputs(data, chosen)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        everything = torch.arange(COUNT)
        return [100 * float(score(model(*inputs(d, everything)), truth)[1]) for d, truth in parts[1:]]


def measure(seed: int) -> dict[str, float]:
    """Test accuracies of both, at the rate that other graphs prefer."""
    draw, found = np.random.default_rng(seed), {}
    for what, make, score in (("rings", rings, of_graphs), ("blocks", blocks, of_nodes)):
        parts = [make(draw) for _ in range(3)]
        for name, position in (("with", Spec("eigenvectors", count=POSITIONS)), ("without", None)):
            tried = [accuracy(position, what, score, rate, seed, parts) for rate in RATES]
            found[f"{what}_{name}"] = max(tried)[1]
        found[f"{what}_gain"] = found[f"{what}_with"] - found[f"{what}_without"]
    return found
