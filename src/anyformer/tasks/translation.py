"""Sequence to sequence: one text to another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, OptionError
from anyformer.core.segments import Segments
from anyformer.data.dates import date_pairs
from anyformer.data.pairs import read_pairs
from anyformer.data.tokenizers import Tokenizer, make_tokenizer
from anyformer.tasks.language import token_loss
from anyformer.tasks.task import IGNORE, Baseline, Batch, Task, measuring
from anyformer.tasks.texts import padded

PAD, START, END = 0, 1, 2
MARKS = 3
"""Numbers taken by padding, start and end; the tokenizer's own follow."""


class Translation(Task):
    """One text to another. Loss: cross-entropy. Metric: exact match; beside it accuracy per token.

    Exact match lets the model write by itself, always the likeliest token; token accuracy gives it the truth so far.

    Args:
        parts: pairs (source, target) of "train", "valid" and "test".
        tokenizer: of both sides.
        source_name: where the pairs come from, for `facts`.
    """

    name = "pairs"
    metric = "exact_match"
    higher_is_better = True
    default_model = "transformer_micro"

    def __init__(self, parts: dict[str, list[tuple[str, str]]], tokenizer: Tokenizer, source_name: str):
        self.parts, self.tokenizer, self.source_name = parts, tokenizer, source_name
        self.encoded = {split: [self._encode(*pair) for pair in pairs] for split, pairs in parts.items()}
        everything = [pair for pairs in self.encoded.values() for pair in pairs]
        self.source_length = max(len(source) for source, _ in everything)
        self.target_length = max(len(target) for _, target in everything) + 1

    def _encode(self, source: str, target: str) -> tuple[list[int], list[int]]:
        first, second = ([k + MARKS for k in self.tokenizer.encode(text)] for text in (source, target))
        return first, second

    def model_options(self) -> dict[str, Any]:
        longest = max(self.source_length, self.target_length)
        return {"vocab_size": self.tokenizer.vocab_size + MARKS, "max_length": longest}

    def size(self, split: str) -> int:
        return len(self.parts[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "source" `(b, s)`; "target" `(b, t)`, which starts with START; "labels" `(b, t)`, which end with END.

        Padding is PAD in "source" and "target", `IGNORE` in "labels".
        """
        pairs = [self.encoded[self.check_split(split)][i] for i in indices.tolist()]
        return {
            "source": padded([source for source, _ in pairs], PAD),
            "target": padded([[START, *target] for _, target in pairs], PAD),
            "labels": padded([[*target, END] for _, target in pairs], IGNORE),
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(_logits(model, batch["source"], batch["target"]), batch["labels"], label_smoothing)

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORE).sum())

    def baseline(self, split: str = "valid") -> Baseline:
        pairs = self.parts[self.check_split(split)]
        return Baseline("the source, copied", sum(a == b for a, b in pairs) / len(pairs), 0.2)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """Exact match, token accuracy, mean loss in nats per token, and "guesses" (the texts that were written)."""
        right = tokens = 0
        nats = 0.0
        guesses: list[str] = []
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                logits, count = _logits(model, batch["source"], batch["target"]), self.count(batch)
                nats += float(token_loss(logits, batch["labels"])) * count
                right += int((logits.argmax(-1) == batch["labels"]).sum())
                tokens += count
                guesses += self._texts(write(model, batch["source"], self.target_length))
        exact = sum(guess == target for guess, (_, target) in zip(guesses, self.parts[split], strict=True))
        return {
            "exact_match": exact / self.size(split),
            "token_accuracy": right / tokens,
            "loss": nats / tokens,
            "guesses": guesses,
        }

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> list[dict[str, Any]]:
        """The text that the model writes for each source text."""
        if len(inputs) == 0:
            return []
        encoded = [self._encode(text, "")[0] for text in inputs]
        for text, source in zip(inputs, encoded, strict=True):
            if not 0 < len(source) <= self.source_length:
                raise DataError(
                    f"a source has 1 to {self.source_length} tokens, as many as the longest of the data; "
                    f"{text[:40]!r} has {len(source)}."
                )
        with measuring(model) as device:
            written = write(model, padded(encoded, PAD).to(device), self.target_length)
        return [{"input": text, "output": out} for text, out in zip(inputs, self._texts(written), strict=True)]

    def _texts(self, rows: Tensor) -> list[str]:
        """The text of each row of tokens, up to its END."""
        texts = []
        for row in rows.tolist():
            body = row[: row.index(END)] if END in row else row
            texts.append(self.tokenizer.decode([k - MARKS for k in body if k >= MARKS]))
        return texts

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        return [{"input": source, "truth": target} for source, target in self.parts[self.check_split(split)][:n]]

    def facts(self) -> dict[str, Any]:
        sizes = {split: self.size(split) for split in self.parts}
        return {
            "task": self.name, "source": self.source_name, "sizes": sizes, "vocab_size": self.tokenizer.vocab_size
        }  # fmt: skip


def _logits(model: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """`(b, t, vocab)` float32; padding is told to the model as segments."""
    sources, targets = Segments.from_mask(source != PAD), Segments.from_mask(target != PAD)
    return model(source, target, source_segments=sources, target_segments=targets).float()


def write(model: nn.Module, source: Tensor, length: int) -> Tensor:
    """`(b, at most length)`: the likeliest token after each other, until every row has its END.

    It runs the whole model again for each token, so that it measures any model of the calling convention alike.
    """
    target = torch.full((len(source), 1), START, device=source.device)
    done = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(length):
        # every token so far is valid: after its END a row goes on unread, which changes no other row
        following = model(
            source, target, source_segments=Segments.from_mask(source != PAD),
            target_segments=Segments.from_mask(torch.ones_like(target)),
        )[:, -1].argmax(-1)  # fmt: skip
        target = torch.cat([target, following[:, None]], 1)
        done |= following == END
        if bool(done.all()):
            break
    return target[:, 1:]


class Dates(Translation):
    """Dates as people write them to ISO 8601, such as "the 7th of March, 2024" to "2024-03-07"; generated.

    Args:
        pairs: training pairs, at most 65,000; 1,000 more to choose by, and 2,000 to test.
        seed: of the generation.
    """

    name = "dates"

    def __init__(self, pairs: int = 20_000, seed: int = 0):
        if not 1 <= pairs <= 65_000:
            raise OptionError(f"pairs is 1 to 65000, as dates do not repeat; given {pairs}.")
        sizes = {"train": pairs, "valid": 1000, "test": 2000}
        super().__init__(date_pairs(sizes, seed), make_tokenizer("bytes", "", 0), f"generated, seed {seed}")


class Pairs(Translation):
    """Your pairs of texts: a file with two columns, tab-separated or CSV.

    Args:
        path: of the file.
        tokenizer: as `Text`'s, learned on the training part of both columns.
        vocab_size: tokens of a tokenizer that is learned.
        encoding: of the file.
        seed: by which pairs are dealt out to the parts.
    """

    name = "pairs"

    def __init__(
        self,
        path: str | Path,
        tokenizer: str = "bytes",
        vocab_size: int = 1024,
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        parts = read_pairs(Path(path), encoding, seed=seed)
        learned = "\n\n".join(text for pair in parts["train"] for text in pair)
        super().__init__(parts, make_tokenizer(tokenizer, learned, vocab_size), str(path))


TASKS = {"dates": Dates, "pairs": Pairs}
