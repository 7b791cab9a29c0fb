"""Minimal pairs: does a language model give the right one of two sentences the higher probability?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import DataError, OptionError
from anyformer.data.agreement import Pair, pairs, sentences
from anyformer.data.captions import Words
from anyformer.data.minimal_pairs import read_pairs
from anyformer.data.text import read_text
from anyformer.data.tokenizers import Bytes
from anyformer.methods.decoding.likelihood import log_likelihood
from anyformer.tasks.language import log_frequencies, token_loss
from anyformer.tasks.task import IGNORE, Baseline, Batch, Task, measuring

HELD = 0.05
"""Share of the sentences of a text on which the loss is measured."""


class MinimalPairs(Task):
    """Learn a language from sentences; be measured on pairs of them of which one has a mistake.

    A pair is right where the sum of log probabilities of all tokens is higher for the sentence as it should be
    (Warstadt et al. 2020, BLiMP, arXiv:1912.00582, section 4). Loss: cross-entropy of each next token. Metric:
    "accuracy", the share of pairs that are right.

    Args:
        path: a folder with "train.txt", a sentence a line, and pairs in .jsonl files (`data.minimal_pairs`), read as
            bytes; sentences whose verbs agree with their subjects (`data.agreement`) where not given.
        words: of the generated sentences to train on.
        seed: of the generated sentences; the pairs are the same for all.
        length: longest sentence in tokens; longer ones are an error.
    """

    name = "minimal_pairs"
    papers = ("baby_hgrn",)
    metric = "accuracy"
    higher_is_better = True
    default_model = "hgrn2_micro"

    def __init__(self, path: str | Path | None = None, words: int = 20_000, seed: int = 0, length: int | None = None):
        if path is None:
            both = pairs(1000, seed=-1)
            self.pairs = {"valid": both[:500], "test": both[500:]}
            lines = sentences(words, seed, without=both)
            self.tokenizer: Words | Bytes = Words(lines)
            held = sentences(2000, -2 - seed, without=[*both, *((line, "") for line in lines)])
            texts = {"train": lines, "valid": held, "test": held}
            self.source = "data.agreement"
        else:
            found = read_pairs(path)
            if len(found) < 2:
                raise DataError(f"the pairs below {path} are {len(found)}; one is chosen by and one is tested on.")
            self.pairs = {"valid": found[::2], "test": found[1::2]}
            lines = [line.strip() for line in read_text(Path(path) / "train.txt").splitlines() if line.strip()]
            kept = max(1, round(len(lines) * HELD))
            if len(lines) < 2:
                raise DataError(f"{Path(path) / 'train.txt'} holds sentences, one a line; given {len(lines)} of them.")
            texts = {"train": lines[:-kept], "valid": lines[-kept:], "test": lines[-kept:]}
            self.tokenizer = Bytes()
            self.source = str(path)
        every = [*lines, *(s for part in self.pairs.values() for pair in part for s in pair)]
        longest = max(len(self.tokenizer.encode(s)) for s in every)
        self.length = longest if length is None else length
        if self.length < longest:
            raise OptionError(f"a sentence of {longest} tokens does not fit into length={length}: give {longest}.")
        self.ids = {split: self.encode(text) for split, text in texts.items()}

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "b n"]:
        """Rows of a start, a sentence, and `IGNORE` behind it: `(b, length + 1)`."""
        rows = torch.full((len(texts), self.length + 1), IGNORE)
        for row, text in zip(rows, texts, strict=True):
            tokens = self.tokenizer.encode(text)
            row[0] = 0
            row[1 : len(tokens) + 1] = torch.tensor(tokens)
        return rows

    def model_options(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size, "max_length": self.length}

    def size(self, split: str) -> int:
        return len(self.ids[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "targets", `(b, length)` int64; targets behind a sentence are `IGNORE`."""
        return shifted(self.ids[self.check_split(split)][indices])

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(model(batch["ids"]), batch["targets"], label_smoothing)

    def count(self, batch: Batch) -> int:
        return int((batch["targets"] != IGNORE).sum())

    def baseline(self, split: str = "valid") -> Baseline:
        """Sentences by the frequency of their tokens, whatever their order."""
        tokens = self.ids["train"]
        chances = log_frequencies(tokens[tokens != IGNORE], self.tokenizer.vocab_size)
        good, bad = (
            torch.tensor([float(chances[self.tokenizer.encode(s)].sum()) for s in side])
            for side in zip(*self.pairs[self.check_split(split)], strict=True)
        )
        return Baseline("sentences by the frequency of their words", float((good > bad).float().mean()), 0.2)

    def scores(self, model: nn.Module, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, " n"]:
        """The log probability of each text, in nats."""
        found = []
        with measuring(model) as device:
            for rows in self.encode(texts).split(batch_size):
                batch = shifted(rows.to(device))
                found.append(log_likelihood(model(batch["ids"]), batch["targets"]).cpu())
        return torch.cat(found)

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "accuracy" over the pairs, and "loss" in nats a token over held-out sentences."""
        good, bad = zip(*self.pairs[self.check_split(split)], strict=True)
        right = self.scores(model, good, batch_size) > self.scores(model, bad, batch_size)
        loss, tokens = self.mean_loss(model, split, batch_size)
        return {"accuracy": float(right.float().mean()), "loss": loss, "pairs": len(right), "tokens": tokens}

    def predict(self, model: nn.Module, inputs: Sequence[str | Pair]) -> list[dict[str, Any]]:
        """For each text its log probability; for each pair both, and which one is preferred."""
        found = []
        for given in inputs:
            texts = [given] if isinstance(given, str) else list(given)
            scores = self.scores(model, texts).tolist()
            best = {"preferred": texts[scores.index(max(scores))]} if len(texts) > 1 else {}
            found.append({"input": given, "log_probability": scores[0] if len(texts) == 1 else scores, **best})
        return found

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        chosen = self.pairs[self.check_split(split) if split != "train" else "valid"][:n]
        return [{"input": f"{good} / {bad}", "truth": good} for good, bad in chosen]

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.source,
            "vocab_size": self.tokenizer.vocab_size,
            "length": self.length,
            "sentences": {split: len(ids) for split, ids in self.ids.items()},
            "pairs": {split: len(found) for split, found in self.pairs.items()},
        }


def shifted(rows: Int[Tensor, "b n"]) -> Batch:
    """Ids and the next ones as targets; behind the end ids are 0, which no target looks at."""
    return {"ids": rows[:, :-1].clamp(min=0), "targets": rows[:, 1:]}


TASKS = {"minimal_pairs": MinimalPairs}
