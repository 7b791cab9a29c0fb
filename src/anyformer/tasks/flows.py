"""Intrusion detection: is the last flow of a window an attack? Generated flows, and your tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError
from anyformer.data.flows import Flows, FlowScaler, generated_flows, read_flows, windows
from anyformer.data.splits import SPLITS
from anyformer.tasks import metrics
from anyformer.tasks.task import Baseline, Batch, Task, measuring

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
"""Shares of the flows that the parts take, one after the other in time."""


class FlowDetection(Task):
    """Benign or attack, for the last flow of each window. Loss: cross-entropy. Metric: F1 of the attacks.

    Beside it accuracy, "detection" (attacks found) and "false_alarms" (benign flows that raised one), as in
    arXiv:2304.14746. Fields are scaled, and their categories counted, on the training part alone.

    Args:
        flows: in the order of time.
        benign: labels that are no attack.
        window: flows of a window.
        most: values that a categorical field keeps; rarer ones count as never seen.
        source: where the flows come from.
    """

    name = "flows"
    metric = "f1"
    higher_is_better = True
    default_model = "flowtransformer_micro"

    def __init__(
        self, flows: Flows, benign: Sequence[str] = ("benign",), window: int = 8, most: int = 32, source: str = ""
    ):
        count = len(flows)
        ends = {"train": int(SHARES["train"] * count), "valid": int((1 - SHARES["test"]) * count), "test": count}
        parts, begin = {}, 0
        for split in SPLITS:
            parts[split], begin = flows.select(slice(begin, ends[split])), ends[split]
        self.scaler = FlowScaler.fit(parts["train"], most)
        self.window, self.source, self.benign = window, source, tuple(benign)
        self.numbers = {s: torch.from_numpy(self.scaler.numbers(part)) for s, part in parts.items()}
        self.categories = {s: torch.from_numpy(self.scaler.categories(part)) for s, part in parts.items()}
        self.labels = {s: torch.tensor([int(x not in self.benign) for x in part.labels]) for s, part in parts.items()}
        self.rows = {s: torch.from_numpy(windows(len(part), window)) for s, part in parts.items()}
        for split, labels in self.labels.items():
            asked = labels[window - 1 :]
            if not 0 < int(asked.sum()) < len(asked):
                found = ", ".join(sorted(set(parts[split].labels)))
                raise DataError(
                    f"the {split} part has {int(asked.sum())} attacks in {len(asked)} windows; both kinds are needed. "
                    f"Its labels are {found}; benign are {', '.join(self.benign)}: give more flows, or benign=."
                )

    def model_options(self) -> dict[str, Any]:
        return {
            "numbers": len(self.scaler.least),
            "levels": self.scaler.levels,
            "window": self.window,
            "num_classes": 2,
        }

    def size(self, split: str) -> int:
        return len(self.rows[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """Scaled "numbers" `(b, w, f)`, "categories" `(b, w, g)`, "labels" `(b,)` of the last flows, 1 an attack."""
        rows = self.rows[self.check_split(split)][indices]
        return {
            "numbers": self.numbers[split][rows],
            "categories": self.categories[split][rows],
            "labels": self.labels[split][rows[:, -1]],
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        logits = model(batch["numbers"], batch["categories"]).float()
        return F.cross_entropy(logits, batch["labels"], label_smoothing=label_smoothing)

    def count(self, batch: Batch) -> int:
        return len(batch["labels"])

    def truth(self, split: str) -> Tensor:
        """Labels of all windows of a part."""
        return self.labels[self.check_split(split)][self.window - 1 :]

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """F1 of the attacks, accuracy, "detection", "false_alarms", mean loss, "classes", "confusion", "guesses"."""
        guesses, loss = [], 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                logits = model(batch["numbers"], batch["categories"]).float()
                loss += float(F.cross_entropy(logits, batch["labels"], reduction="sum"))
                guesses.append(logits.argmax(-1).cpu())
        guess, truth = torch.cat(guesses), self.truth(split)
        return self.scores(guess, truth) | {
            "loss": loss / len(truth),
            "guesses": [("benign", "attack")[k] for k in guess.tolist()],
        }

    def scores(self, guess: Tensor, truth: Tensor) -> dict[str, Any]:
        """What guesses (1 for an attack) are worth."""
        table = metrics.confusion(truth, guess, 2)
        recall, f1 = metrics.recall(table), metrics.f1(table)
        return {
            "f1": float(f1[1]),
            "accuracy": metrics.accuracy(table),
            "detection": float(recall[1]),
            "false_alarms": 1 - float(recall[0]),
            "confusion": table.tolist(),
        }

    def baseline(self, split: str = "valid") -> Baseline:
        truth = self.truth(split)
        return Baseline(
            "an alarm for every flow (none at all has an F1 of 0)",
            self.scores(torch.ones_like(truth), truth)["f1"],
            0.3,
        )

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Of each table (`Flows`, or the path of a CSV file with labels): the windows that raise an alarm."""
        found = []
        for given in inputs:
            flows = given if isinstance(given, Flows) else read_flows(Path(given))
            rows = torch.from_numpy(windows(len(flows), self.window))
            numbers, categories = (
                torch.from_numpy(x) for x in (self.scaler.numbers(flows), self.scaler.categories(flows))
            )
            with measuring(model) as device:
                alarms = [
                    model(numbers[part].to(device), categories[part].to(device)).argmax(-1).cpu()
                    for part in rows.split(256)
                ]
            last = (torch.cat(alarms).nonzero()[:, 0] + self.window).tolist()
            path = None if isinstance(given, Flows) else str(given)
            found.append({"input": path, "alarms": len(last), "flows": len(flows), "rows": last})
        return found

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The scaled fields of each window's last flow as a text, and what it is."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        names = [*self.scaler.least, *self.scaler.ranks]
        found = []
        for numbers, ids, label in zip(
            batch["numbers"][:, -1], batch["categories"][:, -1], batch["labels"], strict=True
        ):
            words = [
                next((value for value, rank in ranks.items() if rank == k), "not seen in training")
                for ranks, k in zip(self.scaler.ranks.values(), ids.tolist(), strict=True)
            ]
            values = [f"{v:.2f}" for v in numbers.tolist()] + words
            text = ", ".join(f"{n} {v}" for n, v in zip(names, values, strict=True))
            found.append({"input": text, "truth": ("benign", "attack")[int(label)]})
        return found

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.source,
            "sizes": {split: self.size(split) for split in SPLITS},
            "attacks": {split: int(self.truth(split).sum()) for split in SPLITS},
            "fields": [*self.scaler.least, *self.scaler.ranks],
            "window": self.window,
        }


class GeneratedFlows(FlowDetection):
    """Generated flows of a small network with scans, floods and guessed passwords.

    Args:
        count: flows, over all parts.
        window: flows of a window.
        seed: of the generation.
    """

    name = "flows"

    def __init__(self, count: int = 12000, window: int = 8, seed: int = 0):
        super().__init__(generated_flows(count, seed), window=window, source=f"generated, seed {seed}")


class FlowTables(FlowDetection):
    """Your flows: a CSV file with a row for each in the order of time, and a column that says what it is.

    Args:
        path: of the file.
        label: name of the column of labels; by default the first called label, class, attack, ...
        benign: labels that are no attack.
        leave_out: columns that are no fields, such as addresses.
        window: flows of a window.
        most: values that a categorical field keeps.
    """

    name = "flow-table"

    def __init__(
        self,
        path: str | Path,
        label: str = "",
        benign: Sequence[str] = ("benign", "Benign", "BENIGN", "normal", "0"),
        leave_out: Sequence[str] = (),
        window: int = 8,
        most: int = 32,
    ):
        flows = read_flows(Path(path), label=label, leave_out=leave_out)
        super().__init__(flows, benign, window, most, str(path))


TASKS = {"flows": GeneratedFlows, "flow-table": FlowTables}
