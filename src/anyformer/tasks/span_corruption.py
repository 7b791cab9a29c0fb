"""Span corruption: write the spans that are missing from a text, each behind the sentinel that stands for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import FitError
from anyformer.methods.pretraining.text_masking import corrupt_spans, span_counts
from anyformer.tasks.language import CorruptedText, log_frequencies, token_loss, token_metrics
from anyformer.tasks.task import Baseline, Batch, measuring


class SpanCorruption(CorruptedText):
    """An encoder-decoder reads a text with gaps and writes what was there. Loss: cross-entropy. Metric: that loss.

    Raffel et al. 2019 (T5), arXiv:1910.10683, section 3.1.4. Nothing is padded: all windows lose as many tokens in as
    many spans.

    Args:
        density: share of the tokens that are missing.
        mean_span: tokens of a gap in the mean.
        path, length, options: as `Text`'s.
    """

    name = "span_corruption"
    metric = "span_loss"
    higher_is_better = False
    default_model = "t5_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        length: int = 128,
        density: float = 0.15,
        mean_span: float = 3.0,
        **options: Any,
    ):
        self.density, self.mean_span = density, mean_span
        self.hidden, self.spans = span_counts(max(length, 2), density, mean_span)
        self.marks = ("pad", "end", *(f"sentinel{i}" for i in range(self.spans)))
        super().__init__(path, length=length, **options)
        marks = self.tokenizer.marks
        self.pad, self.end = marks["pad"], marks["end"]
        self.sentinels = [marks[f"sentinel{i}"] for i in range(self.spans)]

    def model_options(self) -> dict[str, Any]:
        longest = max(self.length - self.hidden, self.hidden) + self.spans + 1
        return {
            "vocab_size": self.tokenizer.vocab_size, "max_length": longest, "start": self.pad, "end": self.end
        }  # fmt: skip

    def corrupt(self, ids: Tensor, seeds: Tensor) -> Batch:
        """ "source" `(b, s)`; "target" `(b, t)`, which starts with padding; "labels" `(b, t)`. All end with an end."""
        source, target = corrupt_spans(
            ids, seeds, sentinels=self.sentinels, density=self.density, mean_span=self.mean_span
        )
        ends, pads = torch.full((len(ids), 1), self.end), torch.full((len(ids), 1), self.pad)
        labels = torch.cat([target, ends], 1)
        return {
            "source": torch.cat([source, ends], 1), "target": torch.cat([pads, labels[:, :-1]], 1), "labels": labels
        }  # fmt: skip

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        inner: Any = getattr(model, "module", model)
        if not hasattr(inner, "encode"):
            raise FitError(
                f"the task {self.name!r} trains an encoder-decoder, such as {self.default_model}; given "
                f"{getattr(inner, 'variant', None) or type(inner).__name__}."
            )
        return model(batch["source"], batch["target"])

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(self.logits(model, batch), batch["labels"], label_smoothing)

    def count(self, batch: Batch) -> int:
        return batch["labels"].numel()

    def baseline(self, split: str = "valid") -> Baseline:
        """Each token by its frequency in the targets of the training part (add-one smoothed)."""
        known, labels = (
            self.sample(part, torch.arange(self.size(part)))["labels"].flatten() for part in ("train", split)
        )
        nats = -float(log_frequencies(known, self.tokenizer.vocab_size)[labels].mean())
        return Baseline("tokens by their frequency", nats, 0.5)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 64) -> dict[str, Any]:
        """ "span_loss" in nats a target token, the same as "loss"; accuracy given the truth so far; perplexity."""
        found = token_metrics(self, model, split, batch_size, "labels")
        return {"span_loss": found["loss"], "token_accuracy": found.pop("accuracy"), **found}

    def predict(self, model: nn.Module, inputs: Sequence[str], tokens: int = 64) -> list[dict[str, Any]]:
        """Each text with gaps, and what the model writes for them, the gaps' marks between."""
        found = []
        with measuring(model) as device:
            for text, _, batch in self.corrupted(inputs):
                inner: Any = getattr(model, "module", model)
                written = inner.generate(batch["source"].to(device), max_new_tokens=batch["labels"].shape[1])
                found.append(
                    {
                        "input": text,
                        "source": self.shown(batch["source"][0]),
                        "written": self.shown(written[0, 1:].cpu()),
                    }
                )
        return found

    def shown(self, ids: Tensor) -> str:
        """A text with its sentinels as <0>, <1>, ..., up to its end."""
        numbers = {sentinel: f"<{i}>" for i, sentinel in enumerate(self.sentinels)}
        text, run = "", []
        for token in ids.tolist():
            if token == self.end:
                break
            if token in numbers:
                text, run = text + self.tokenizer.decode(run) + numbers[token], []
            else:
                run.append(token)
        return text + self.tokenizer.decode(run)

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Windows with gaps, and what belongs there."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        return [
            {"input": self.shown(source), "truth": self.shown(labels)}
            for source, labels in zip(batch["source"], batch["labels"], strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "density": self.density, "mean_span": self.mean_span}


TASKS = {"span_corruption": SpanCorruption}
