"""Graph prediction: one class or one number for each graph; generated graphs, and your lists of edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.edge_lists import read_graphs
from anyformer.data.graphs import FILL, Graph, collate, diameter, laplacian_eigenvectors, unicyclic
from anyformer.data.pictures import PALETTE, Picture
from anyformer.data.splits import SPLITS
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device

HOPS, POSITIONS = 5, 4
"""Edges of a shortest path, and eigenvectors of the Laplacian, that models are given."""


class GraphPrediction(Task):
    """One class or one number per graph.

    Classes: cross-entropy and accuracy. Numbers: Huber's loss in deviations of the training part, and the mean absolute
    error in the number's own unit. What graphs are to a model is prepared once, and all of it is held in memory.

    Args:
        graphs, targets: of each part: graphs, and class numbers (int64) or numbers (float32).
        classes: their names; empty where the target is a number.
        unit: of the number, in words.
        source: where the graphs come from, for `facts`.
    """

    name = "graph"
    default_model = "graphormer_micro"

    def __init__(
        self,
        graphs: dict[str, list[Graph]],
        targets: dict[str, Tensor],
        classes: Sequence[str],
        unit: str,
        source: str,
    ):
        self.graphs, self.targets = graphs, targets
        self.classes, self.unit, self.source = tuple(classes), unit, source
        self.metric, self.higher_is_better = ("accuracy", True) if classes else ("mae", False)
        self.held = {split: collate(part, hops=HOPS, positions=POSITIONS) for split, part in graphs.items()}
        known = targets["train"].double()
        self.centre, self.spread = (0.0, 1.0) if classes else (float(known.mean()), float(known.std()) or 1.0)

    def model_options(self) -> dict[str, Any]:
        def sizes(what: str) -> tuple[int, int]:
            features = [part[what] for part in self.held.values()]
            return features[0].shape[-1], max(int(f.max()) if f.numel() else 0 for f in features) + 1

        (nodes, node_values), (edges, edge_values) = sizes("nodes"), sizes("edges")
        return {
            "num_classes": len(self.classes) or 1,
            "node_features": nodes,
            "node_values": node_values,
            "edge_features": edges,
            "edge_values": edge_values,
        }

    def size(self, split: str) -> int:
        return len(self.graphs[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """What `collate` gives, and "targets" `(b,)`."""
        batch = {name: tensor[indices] for name, tensor in self.held[self.check_split(split)].items()}
        return batch | {"targets": self.targets[split][indices]}

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says, float32. Raises `FitError` for a model that does not take graphs."""
        names = getattr(getattr(model, "module", model), "inputs", None)
        if names is None or not set(names) <= set(FILL):
            raise FitError(
                f"the task {self.name!r} takes models of graphs, whose `inputs` are among {', '.join(FILL)}; "
                "'anyformer models --room graphs' lists them."
            )
        return model(*(batch[name] for name in names)).float()

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return self._loss(self.outputs(model, batch), batch["targets"], label_smoothing)

    def _loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        if self.classes:
            return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction=reduction)
        return F.smooth_l1_loss(outputs[:, 0], (targets - self.centre) / self.spread, reduction=reduction)

    def count(self, batch: Batch) -> int:
        return len(batch["targets"])

    def answers(self, outputs: Tensor) -> Tensor:
        """Class numbers, or numbers in their own unit, `(b,)`."""
        return outputs.argmax(-1) if self.classes else outputs[:, 0] * self.spread + self.centre

    def score(self, answers: Tensor, targets: Tensor) -> float:
        """The metric of some answers."""
        if self.classes:
            return float((answers == targets).float().mean())
        return float((answers - targets).abs().mean())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """Accuracy or mean absolute error, mean loss, and "guesses" (names of classes, or numbers)."""
        found, loss = [], 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                outputs = self.outputs(model, batch)
                loss += float(self._loss(outputs, batch["targets"], reduction="sum"))
                found.append(self.answers(outputs).cpu())
        answers = torch.cat(found)
        return {
            self.metric: self.score(answers, self.targets[split]),
            "loss": loss / len(answers),
            "guesses": [self.worded(a) for a in answers],
        }

    def worded(self, answer: Tensor) -> str | float:
        """A class by its name, a number as it is."""
        return self.classes[int(answer)] if self.classes else float(answer)

    def baseline(self, split: str = "valid") -> Baseline:
        known, asked = self.targets["train"], self.targets[self.check_split(split)]
        if self.classes:
            return Baseline("the most frequent class", self.score(known.mode().values.expand_as(asked), asked), 0.1)
        value = self.score(known.median().expand_as(asked), asked)
        return Baseline("the median of the training part", value, 0.5 * value)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """The class or number of graphs (`anyformer.data.graphs.Graph`)."""
        if len(inputs) == 0:
            return []
        wrong = next((x for x in inputs if not isinstance(x, Graph)), None)
        if wrong is not None:
            raise DataError(f"the task {self.name!r} takes graphs, as Graph.undirected(pairs, nodes); given {wrong!r}.")
        with measuring(model) as device:
            batch = to_device(collate(list(inputs), hops=HOPS, positions=POSITIONS), device)
            answers = self.answers(self.outputs(model, batch)).cpu()
        return [{"input": None, "label" if self.classes else "number": self.worded(a)} for a in answers]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Each graph's edges as a text, and its target."""
        part, targets = self.graphs[self.check_split(split)][:n], self.targets[split]
        return [{"input": edges_as_text(g), "truth": self.worded(t)} for g, t in zip(part, targets, strict=False)]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        graphs = self.graphs[self.check_split(split)][:n]
        said = [next(v for k, v in row.items() if k != "input") for row in self.predict(model, graphs)]
        return [
            Picture(f"predicted {_short(guess)}, truth {_short(self.worded(t))} {self.unit}".rstrip(), draw(g))
            for g, guess, t in zip(graphs, said, self.targets[split], strict=False)
        ]

    def facts(self) -> dict[str, Any]:
        sizes = {split: self.size(split) for split in SPLITS}
        return {"task": self.name, "source": self.source, "sizes": sizes, "classes": list(self.classes)}


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}"


def edges_as_text(graph: Graph) -> str:
    """Pairs of neighbours, each once."""
    return ", ".join(f"{a}-{b}" for a, b in sorted({(min(a, b), max(a, b)) for a, b in graph.links.tolist()}))


def draw(graph: Graph, side: int = 160) -> np.ndarray:
    """A graph's picture `(side, side, 3)`; nodes lie where two eigenvectors of the Laplacian put them."""
    from PIL import Image, ImageDraw

    place = laplacian_eigenvectors(graph, 2, short="pad")
    low, high = place.min(0), place.max(0)
    spots = (0.08 + 0.84 * (place - low) / np.maximum(high - low, 1e-9)) * side
    image = Image.new("RGB", (side, side), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for a, b in graph.links:
        pen.line([tuple(spots[a]), tuple(spots[b])], fill=(148, 148, 148), width=2)
    for (x, y), kind in zip(spots, graph.nodes[:, 0], strict=True):
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=tuple(PALETTE[1 + int(kind) % 7].tolist()))
    return np.asarray(image)


class Rings(GraphPrediction):
    """Generated graphs of 8 to 16 nodes, a ring with trees on it: how long is the longest shortest path, or the ring?

    Args:
        question: "diameter" (hops) or "ring" (nodes).
        graphs: training graphs; 500 more to choose by, and 500 to test.
        seed: of the generation.
    """

    name = "graph"

    def __init__(self, question: Literal["diameter", "ring"] = "diameter", graphs: int = 3000, seed: int = 0):
        if question not in ("diameter", "ring"):
            raise OptionError(f"question is diameter or ring; given {question!r}.")
        if graphs < 1:
            raise OptionError(f"graphs is 1 or more; given {graphs}.")
        draw = np.random.default_rng(seed)
        made: dict[str, list[Graph]] = {}
        targets: dict[str, Tensor] = {}
        for split, count in (("train", graphs), ("valid", 500), ("test", 500)):
            rings = draw.integers(4, 9, count)
            made[split] = [unicyclic(int(ring), int(draw.integers(8, 17)), draw) for ring in rings]
            numbers = rings if question == "ring" else [diameter(g) for g in made[split]]
            targets[split] = torch.tensor(np.asarray(numbers), dtype=torch.float32)
        super().__init__(made, targets, (), "hops" if question == "diameter" else "nodes", f"generated, seed {seed}")


class EdgeLists(GraphPrediction):
    """Your graphs: a folder with graphs.csv (graph, label) and edges.csv (graph, source, target), labels optional.

    Args:
        path: of the folder; nodes.csv (graph, node, label) gives nodes categories, a column label in edges.csv edges.
        target: whether labels of graphs are classes or numbers; "auto": numbers where all are written with a point.
        seed: by which graphs are dealt out to the parts, where graphs.csv has no column split.
    """

    name = "graphs"

    def __init__(self, path: str | Path, target: Literal["auto", "class", "number"] = "auto", seed: int = 0):
        if target not in ("auto", "class", "number"):
            raise OptionError(f"target is auto, class or number; given {target!r}.")
        found = read_graphs(Path(path), seed)
        numbers = target == "number" or (target == "auto" and all("." in label for label in found.labels))
        names = sorted(set(found.labels))
        if not numbers and len(names) < 2:
            raise DataError(f"{path}: classification takes two or more classes; there is only {names[0]!r}.")
        classes = () if numbers else tuple(names)
        values = [_number(label, path) if numbers else classes.index(label) for label in found.labels]
        labels = torch.tensor(values, dtype=torch.float32 if numbers else torch.int64)
        parts = {split: [found.graphs[i] for i in members] for split, members in found.splits.items()}
        targets = {split: labels[torch.from_numpy(np.asarray(members))] for split, members in found.splits.items()}
        super().__init__(parts, targets, classes, "", str(path))


def _number(label: str, path: str | Path) -> float:
    try:
        return float(label)
    except ValueError as error:
        raise DataError(f"{path}/graphs.csv: {label!r} is no number; give target='class' for classes.") from error


TASKS = {"graph": Rings, "graphs": EdgeLists}
