"""Classification of texts, or of pairs of texts, that may have several labels each, or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.data.characters import characters
from anyformer.data.labelled_text import Columns, MultiLabelled, read_multilabelled
from anyformer.tasks import metrics
from anyformer.tasks.task import Baseline, measuring, to_device
from anyformer.tasks.text_classification import Overlong, TextRows

TRAIN, OTHER = 4000, 500
"""Names of the training part, and of each other one."""


class MultilabelText(TextRows):
    """Which labels a text, or a pair of texts, has: a yes or no for each. Loss: binary cross-entropy.

    Metric: micro F1, of all labels together; beside it macro F1, the mean over labels.

    Args:
        path: a .csv, .tsv or .jsonl file, or a folder with such a file for each part
            (`data.labelled_text.read_multilabelled`); names of Unicode's characters where not given.
        tokenizer, length, vocab_size: as `TextClassification`'s.
        text, label: names of the columns of the text and of its labels.
        second: name of the column of the second text, where pairs are classified.
        separator: between the labels of a row; in JSON lines they may be a list.
        threshold: the probability from which on a label is given.
        overlong, encoding: as `TextClassification`'s.
        seed: by which samples are dealt out to parts that are not given.

    Raises:
        OptionError: a threshold that is no probability, `second` without a path.
        DataError: as `TextRows` and `read_multilabelled`.
    """

    name = "multilabel_text"
    metric = "micro_f1"
    margin = 0.2

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 128,
        vocab_size: int = 1024,
        text: str = "text",
        label: str = "labels",
        second: str | None = None,
        separator: str = ";",
        threshold: float = 0.5,
        overlong: Overlong = "refuse",
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        if not 0 < threshold < 1:
            raise OptionError(f"a threshold is a probability between 0 and 1; given {threshold}.")
        self.threshold = threshold
        if path is not None:
            parts = read_multilabelled(path, Columns(text, label, second), separator, encoding, seed)
        elif second is not None:
            raise OptionError("second names a column of a file: give its path, as in multilabel_text:pairs.tsv.")
        else:
            parts = _names(seed)
        super().__init__(
            parts,
            source="names of Unicode's characters" if path is None else str(path),
            tokenizer=tokenizer,
            length=length,
            vocab_size=vocab_size,
            overlong=overlong,
        )

    def labels(self, sample: Any) -> tuple[str, ...]:
        return sample.labels

    def targets(self, labels: Sequence[Sequence[int]], classes: int) -> Tensor:
        """`(n, classes)` float32, 1 where a sample has a label."""
        targets = torch.zeros(len(labels), classes)
        for row, own in enumerate(labels):
            targets[row, list(own)] = 1.0
        return targets

    def check_targets(self, targets: Tensor, classes: int, split: str) -> None:
        """They are right as they are made."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
        targets = torch.lerp(batch["labels"], torch.full_like(batch["labels"], 0.5), label_smoothing)
        return F.binary_cross_entropy_with_logits(self.logits(model, batch), targets)

    def count(self, batch: dict[str, Tensor]) -> int:
        return batch["labels"].numel()

    def baseline(self, split: str = "valid") -> Baseline:
        """The same labels for every text: the most frequent ones, as many as are best in the training part."""
        truth, own = (self.parts[part][1].bool() for part in ("train", self.check_split(split)))
        order = truth.sum(0).argsort(descending=True)
        found = []
        for many in range(1, len(order) + 1):
            guess = torch.zeros(len(order), dtype=torch.bool)
            guess[order[:many]] = True
            scores = [metrics.labelled(t, guess.expand_as(t), 0.0, self.classes)["micro_f1"] for t in (truth, own)]
            found.append((scores[0], -many, scores[1]))
        _, many, value = max(found)
        what = ", ".join(self.classes[k] for k in order[:-many].tolist())
        return Baseline(f"the labels {what} for every text", value, self.margin)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 128) -> dict[str, Any]:
        """Micro and macro F1, "exact" (all labels right), mean loss in nats a label, "classes" (each: samples,
        precision, recall, f1), "guesses"."""
        guesses, loss = [], 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                logits = self.logits(model, batch)
                loss += float(F.binary_cross_entropy_with_logits(logits, batch["labels"], reduction="sum"))
                guesses.append((logits.sigmoid() >= self.threshold).cpu())
        return metrics.labelled(self.parts[split][1].bool(), torch.cat(guesses), loss, self.classes)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Labels and probabilities of new texts; of pairs, as two texts or one string with a tab between them."""
        found = []
        for given in inputs:
            with measuring(model) as device:
                chances = self.logits(model, to_device(self.ready(given), device))[0].sigmoid().tolist()
            chances = dict(zip(self.classes, chances, strict=True))
            own = [name for name, chance in chances.items() if chance >= self.threshold]
            found.append({"input": given if isinstance(given, str) else None, "labels": own, "probabilities": chances})
        return found

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "threshold": self.threshold}


def _names(seed: int) -> dict[str, list[MultiLabelled]]:
    """Names of characters in parts."""
    drawn = list(characters(TRAIN + 2 * OTHER, seed))
    return {"train": drawn[:TRAIN], "valid": drawn[TRAIN : TRAIN + OTHER], "test": drawn[TRAIN + OTHER :]}


TASKS = {"multilabel_text": MultilabelText}
