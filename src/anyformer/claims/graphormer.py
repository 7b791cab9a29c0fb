"""Graphormer: told how many hops lie between two nodes, a Transformer reads off a graph what it otherwise must guess.

Graphs of 8 to 16 nodes without features: one ring of 4 to 8 nodes with trees grown on it. Both models know degrees, and
predict the graph's diameter and the length of its ring.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from anyformer.claims._loop import one_cycle
from anyformer.core.spec import Spec
from anyformer.data.graphs import collate, diameter, unicyclic
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="Biases of shortest paths let a Transformer predict properties of graphs.",
    baseline="The same Transformer, with degrees but without the bias; both try the same two learning rates.",
    expect=(
        Expect("diameter_ratio", at_most=0.6, unit="mean absolute error over the baseline's"),
        Expect("ring_ratio", at_most=0.6, unit="mean absolute error over the baseline's"),
    ),
    seeds=(0, 1),
)
SIZES = {"train": 1500, "valid": 300, "test": 500}
STEPS, BATCH, RATES = 400, 64, (1e-3, 3e-3)
Part = tuple[Tensor, Tensor, Tensor]


def graphs(count: int, draw: np.random.Generator) -> Part:
    """Nodes, distances, and the targets `(count, 2)`: diameter and length of the ring."""
    rings = draw.integers(4, 9, count)
    made = [unicyclic(int(ring), int(draw.integers(8, 17)), draw) for ring in rings]
    batch = collate(made, hops=0)
    targets = torch.tensor([[diameter(g), int(r)] for g, r in zip(made, rings, strict=True)], dtype=torch.float32)
    return batch["nodes"], batch["distances"], targets


def errors(model: nn.Module, part: Part) -> Tensor:
    """Mean absolute errors `(2,)`, in hops and in nodes."""
    nodes, distances, targets = part
    model.eval()
    with torch.no_grad():
        return (model(nodes, distances) * SPREAD + CENTRE - targets).abs().mean(0)


CENTRE, SPREAD = torch.tensor([6.0, 6.0]), torch.tensor([2.0, 1.5])
"""About the mean and deviation of the targets."""


def trained(distance: Spec | None, rate: float, seed: int, part: Part) -> nn.Module:
    """A Graphormer with or without the bias of distances; neither knows edges along paths."""
    torch.manual_seed(seed)
    model = create_model("graphormer_micro", distance=distance, path=None, num_classes=2)
    nodes, distances, targets = part

    def loss() -> Tensor:
        chosen = torch.randint(0, len(nodes), (BATCH,))
        guess = model(nodes[chosen], distances[chosen])
        return nn.functional.smooth_l1_loss(guess, (targets[chosen] - CENTRE) / SPREAD)

    return one_cycle(model, loss, steps=STEPS, rate=rate, warm=0.3, decay=0.01)


def measure(seed: int) -> dict[str, float]:
    """Test errors of both at the rate that the validation part prefers, and their ratios."""
    draw = np.random.default_rng(seed)
    parts = {name: graphs(count, draw) for name, count in SIZES.items()}
    found: dict[str, Tensor] = {}
    for name, distance in (("with_bias", Spec("distance_bias", distances=20)), ("without", None)):
        models = [trained(distance, rate, seed, parts["train"]) for rate in RATES]
        best = min(models, key=lambda model: float((errors(model, parts["valid"]) / SPREAD).sum()))
        found[name] = errors(best, parts["test"])
    measured = {
        f"{what}_{name}": float(e[i]) for name, e in found.items() for i, what in enumerate(("diameter", "ring"))
    }
    ratios = found["with_bias"] / found["without"]
    return measured | {"diameter_ratio": float(ratios[0]), "ring_ratio": float(ratios[1])}
