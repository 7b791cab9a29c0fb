"""Classification of sequences of ids: one class a sequence, or one for two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, SizeError
from anyformer.core.segments import Segments
from anyformer.data.images import check_labels
from anyformer.data.long_text import table
from anyformer.tasks import metrics
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device

Rows = tuple[Tensor, Tensor]
"""Ids `(n, longest)`, and how many of each row are valid."""
IDS = (("ids", "lengths"), ("other_ids", "other_lengths"))
"""What a batch calls the first and the second text."""


class SequenceClassification(Task):
    """One class a sequence of ids, or a pair of them. Loss: cross-entropy. Metric: accuracy; beside it macro F1.

    A model takes ids `(b, n)` and `Segments` where rows are padded; for pairs, both ids and then the segments of both.

    Args:
        parts: for "train", "valid" and "test" the texts, one or two, each as `Rows`, and the labels.
        classes: their names, in the order of the labels.
        vocab_size: ids that there are.
        length: the longest sequence that may come; a model has to take it.
        source: where the data come from.
    """

    metric = "accuracy"
    higher_is_better = True
    default_model = "lra_micro"
    margin: ClassVar[float] = 0.1
    """By how much the default model beats the most frequent class."""

    def __init__(
        self,
        parts: dict[str, tuple[list[Rows], Tensor]],
        classes: Sequence[str],
        *,
        vocab_size: int,
        length: int,
        source: str,
    ):
        for split, (texts, labels) in parts.items():
            if not len(labels):
                raise DataError(f"{source} leaves no samples for the {split} part: give more of them.")
            self.check_targets(labels, len(classes), split)
            for ids, _ in texts:
                if int(ids.max()) >= vocab_size:
                    raise DataError(f"{source}: the {split} part has the id {int(ids.max())} of {vocab_size} ids.")
        self.parts, self.classes = parts, tuple(classes)
        self.vocab_size, self.length, self.source = vocab_size, length, source

    def check_targets(self, targets: Tensor, classes: int, split: str) -> None:
        """Raise `DataError` for labels of a part that no model could say."""
        check_labels(targets, classes, split)

    def model_options(self) -> dict[str, Any]:
        return {"num_classes": len(self.classes), "vocab_size": self.vocab_size, "max_length": self.length}

    def size(self, split: str) -> int:
        return len(self.parts[self.check_split(split)][1])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" `(b, n)` and "lengths" `(b)`, for pairs "other_ids" and "other_lengths" too, and "labels"."""
        texts, labels = self.parts[self.check_split(split)]
        batch = {"labels": labels[indices]}
        for (name, many), (ids, lengths) in zip(IDS, texts, strict=False):
            batch[many] = lengths[indices]
            batch[name] = ids[indices, : int(batch[many].max())].long()
        return batch

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says of a batch. Raises `SizeError` where it cannot take the task's longest sequence."""
        check_takes(self, model)
        texts = [(batch[name], batch[many]) for name, many in IDS if name in batch]
        padded = any(is_padded(ids, lengths) for ids, lengths in texts)
        segments = [Segments.from_lengths(lengths, ids.shape[1]) for ids, lengths in texts] if padded else []
        return model(*(ids for ids, _ in texts), *segments).float()

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(self.logits(model, batch), batch["labels"], label_smoothing=label_smoothing)

    def count(self, batch: Batch) -> int:
        return len(batch["labels"])

    def baseline(self, split: str = "valid") -> Baseline:
        labels, frequent = self.parts[self.check_split(split)][1], self.parts["train"][1].mode().values
        return Baseline("the most frequent class", float((labels == frequent).float().mean()), self.margin)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 128) -> dict[str, Any]:
        """Accuracy, mean loss in nats, macro F1, "classes" (each: samples, recall, f1), "confusion", "guesses"."""
        guesses, loss = [], 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                logits = self.logits(model, batch)
                loss += float(F.cross_entropy(logits, batch["labels"], reduction="sum"))
                guesses.append(logits.argmax(-1).cpu())
        return metrics.classified(self.parts[split][1], torch.cat(guesses), loss, self.classes)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Class and probabilities of new inputs, each as `encode` takes it."""
        found = []
        for given in inputs:
            with measuring(model) as device:
                chances = self.logits(model, to_device(self.ready(given), device))[0].softmax(-1).cpu()
            found.append(
                {
                    "input": given if isinstance(given, str) else None,
                    "label": self.classes[int(chances.argmax())],
                    "probability": float(chances.max()),
                    "probabilities": dict(zip(self.classes, chances.tolist(), strict=True)),
                }
            )
        return found

    def ready(self, given: Any) -> Batch:
        """A new input as a batch of one, without a label."""
        texts = [table([ids], self.length) for ids in self.encode(given)]
        batch = {key: t for keys, rows in zip(IDS, texts, strict=False) for key, t in zip(keys, rows, strict=True)}
        return batch | {name: batch[name].long() for name, _ in IDS if name in batch}

    def encode(self, given: Any) -> list[list[int]]:
        """The ids of an input, one list for each text. Raises `DataError` for what is none."""
        raise NotImplementedError

    def show(self, ids: list[int]) -> Any:
        """Ids for people to look at."""
        raise NotImplementedError

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The first samples for people to look at, and the names of their classes."""
        texts, labels = self.parts[self.check_split(split)]
        found = []
        for row in range(min(n, self.size(split))):
            shown = [self.show(ids[row, : int(lengths[row])].tolist()) for ids, lengths in texts]
            both = shown[0] if len(shown) == 1 else "\n\n".join(shown)
            found.append({"input": both, "truth": self.classes[int(labels[row])]})
        return found

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.source,
            "sizes": {split: self.size(split) for split in self.parts},
            "classes": list(self.classes),
            "length": self.length,
        }


def is_padded(ids: Tensor, lengths: Tensor) -> bool:
    """Whether one of the rows of ids `(b, n)` is shorter than n."""
    return bool((lengths < ids.shape[1]).any())


def check_takes(task: Any, model: nn.Module) -> None:
    """Raise `SizeError` for a model that cannot take the longest sequence, `length`, of a task."""
    longest = getattr(model, "max_length", None)
    if longest is not None and longest < task.length:
        raise SizeError(
            f"the task {task.name!r} has sequences of up to {task.length} tokens, and the model takes {longest}: "
            f"build it with max_length={task.length}, or make the task with length={longest}."
        )
