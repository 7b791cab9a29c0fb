"""Language modelling: predict each next token of a text."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.core.part import TokenMixer
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.data.text import cut, pydoc_text, read_text
from anyformer.tasks.metrics import bits_per_byte
from anyformer.tasks.task import IGNORE, Baseline, Batch, measuring
from anyformer.tasks.texts import TextTask, digest

SHIFT = 0
"""Stream of random numbers: where in its stretch a training window starts."""


class Text(TextTask):
    """Predict each next token of a text. Loss: cross-entropy. Metric: bits per byte; beside it perplexity.

    A sample is a window of `length` tokens. In training, windows start anywhere; in measuring they tile the text, so
    that every token but the first is predicted once.

    Args:
        path: a text file or a folder of them; Python's own documentation where not given.
        tokenizer: "bytes"; "characters", "bpe", "wordpiece" or "unigram" learned on the training part (all but
            characters need the extra [text]); or the path of a tokenizer.json.
        length: tokens that the model sees at once.
        vocab_size: tokens of a tokenizer that is learned; characters are as many as there are.
        encoding: of the files.
    """

    name = "text"
    metric = "bits_per_byte"
    higher_is_better = False
    default_model = "gpt2_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 256,
        vocab_size: int = 1024,
        encoding: str = "utf-8",
    ):
        check_length(length)
        text = pydoc_text() if path is None else read_text(Path(path), encoding)
        parts = cut(text)
        self.source = "pydoc_data.topics" if path is None else str(path)
        self.digest, self.length = digest([text]), length
        self.learn(tokenizer, [parts["train"]], vocab_size)
        self.tokens = {split: torch.tensor(self.tokenizer.encode(part)) for split, part in parts.items()}
        for split, tokens in self.tokens.items():
            if len(tokens) < length + 1:
                raise DataError(
                    f"the {split} part of {self.source} has {len(tokens)} tokens, fewer than a window of {length} and "
                    f"its next token: give more text, or length={max(2, len(tokens) - 1)} or less."
                )
        self.bytes = {split: self._bytes(split, part) for split, part in parts.items()}

    def _bytes(self, split: str, part: str) -> int:
        """Bytes of a part, as far as its tokens tell them: a tokenizer that drops spaces is not paid for them."""
        whole = part if self.tokenizer.lossless else self.tokenizer.decode(self.tokens[split].tolist())
        return len(whole.encode())

    def size(self, split: str) -> int:
        return math.ceil((len(self.tokens[self.check_split(split)]) - 1) / self.length)

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids" and "targets", `(b, length)` int64; targets beyond the end of the text are `IGNORE`."""
        at = self.places(split, indices, seed=seed, train=train)
        tokens = self.tokens[split]
        window = tokens[at.clamp(max=len(tokens) - 1)]
        return {"ids": window[:, :-1], "targets": window[:, 1:].masked_fill(at[:, 1:] >= len(tokens), IGNORE)}

    def places(self, split: str, indices: Tensor, *, seed: int, train: bool) -> Tensor:
        """`(b, length + 1)`: where in its part the tokens of a window and the one behind it lie, maybe beyond it."""
        tokens = self.tokens[self.check_split(split)]
        starts = indices * self.length
        if train:
            shift = (uniform(sample_seeds(seed, indices), SHIFT) * self.length).long()
            starts = (starts + shift).clamp(max=len(tokens) - 1 - self.length)
        return starts[:, None] + torch.arange(self.length + 1)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(self.logits(model, batch), batch["targets"], label_smoothing)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """`(b, length, vocab_size)`: what the model says of each place.

        Raises `FitError` for a model that sees the tokens it is to predict, or has no scores of words for each token.
        """
        check_causal(model)
        return scores(self, model, batch["ids"])

    def baseline(self, split: str = "valid") -> Baseline:
        """Each token by its frequency in the training part, whatever comes before (add-one smoothed)."""
        tokens = self.tokens[self.check_split(split)][1:]
        nats = -float(log_frequencies(self.tokens["train"], self.tokenizer.vocab_size)[tokens].mean())
        return Baseline("tokens by their frequency", bits_per_byte(nats, len(tokens), self._predicted(split)), 0.5)

    def _predicted(self, split: str) -> int:
        """Bytes of a split without those of its first token, which is given."""
        return self.bytes[split] - len(self.tokenizer.decode(self.tokens[split][:1].tolist()).encode())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 16) -> dict[str, Any]:
        """Bits per byte, mean loss in nats per token, perplexity per token."""
        loss, tokens = self.mean_loss(model, split, batch_size)
        return {
            "bits_per_byte": bits_per_byte(loss, tokens, self._predicted(split)),
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "tokens": tokens,
        }

    def predict(self, model: nn.Module, inputs: Sequence[str], tokens: int = 64) -> list[dict[str, Any]]:
        """For each text: the five likeliest next tokens, and the likeliest continuation of `tokens` tokens."""
        return [self._continue(model, text, tokens) for text in inputs]

    def _continue(self, model: nn.Module, text: str, tokens: int) -> dict[str, Any]:
        ids = self.tokenizer.encode(text)
        if not ids:
            raise DataError("a continuation starts from at least one character; given an empty text.")
        start, following = len(ids), []
        with measuring(model) as device:
            for step in range(tokens):
                window = torch.tensor([ids[-self.length :]], device=device)
                chances = model(window)[0, -1].float().softmax(-1)
                if step == 0:
                    best = chances.topk(min(5, len(chances)))
                    following = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
                ids.append(int(chances.argmax()))
        return {
            "input": text,
            "continuation": self.tokenizer.decode(ids[start:]),
            "next": [{"token": self.tokenizer.decode([k]), "probability": p} for k, p in following],
        }

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The text of a window, and the text that follows its first half."""
        n = min(n, self.size(split))
        half = self.length // 2
        found = []
        for i in range(n):
            window = self.tokens[self.check_split(split)][i * self.length : (i + 1) * self.length].tolist()
            found.append({"input": self.tokenizer.decode(window[:half]), "truth": self.tokenizer.decode(window[half:])})
        return found

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "digest": self.digest, "bytes": self.bytes}


class CorruptedText(Text):
    """Restore windows of a text of which something was taken away; each is whole and spoiled by its sample's seed.

    In measuring, the same is taken away every time. A task says in `corrupt` what.
    """

    def size(self, split: str) -> int:
        """Whole windows alone, so that all lose as much."""
        return len(self.tokens[self.check_split(split)]) // self.length

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """What `corrupt` makes of the windows."""
        at = self.places(split, indices, seed=seed, train=train)[:, :-1]
        return self.corrupt(self.tokens[split][at], sample_seeds(seed, indices))

    @abstractmethod
    def corrupt(self, ids: Tensor, seeds: Tensor) -> Batch:
        """Spoil `ids` `(b, n)`, drawn by each row's seed."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        return scores(self, model, batch["ids"])

    def corrupted(self, inputs: Sequence[str]) -> Iterator[tuple[str, Tensor, Batch]]:
        """Each new text with its ids `(1, n)` and its batch of one. Raises `DataError` for less than two tokens."""
        for i, text in enumerate(inputs):
            ids = torch.tensor([self.tokenizer.encode(text)[: self.length]], dtype=torch.long)
            if ids.shape[1] < 2:
                raise DataError(f"the task {self.name!r} takes texts of two tokens or more; given {text!r}.")
            yield text, ids, self.corrupt(ids, sample_seeds(0, torch.tensor([i])))


def check_length(length: int) -> None:
    """Raise `OptionError` for a window without a token to predict."""
    if length < 2:
        raise OptionError(f"length is at least 2 tokens; given {length}.")


def check_causal(model: nn.Module) -> None:
    """Raise `FitError` for an encoder whose tokens see later ones."""
    encoder = getattr(getattr(model, "module", model), "name", "") == "encoder"
    mixers = [part for part in model.modules() if encoder and isinstance(part, TokenMixer)]
    if any(m.causality == "never" or (m.causality == "option" and not m.causal) for m in mixers):
        raise FitError(
            "an encoder sees the tokens that are to be predicted: take a decoder, such as gpt2_micro or mamba_micro, "
            "or the task 'masked_text'."
        )


def scores(task: Any, model: nn.Module, ids: Tensor) -> Tensor:
    """`(b, n, v)`: the model's scores of words at every token. Raises `FitError` where it gives something else."""
    found = model(ids)
    if found.shape[:-1] != ids.shape or found.shape[-1] < task.tokenizer.vocab_size:
        raise FitError(
            f"the task {task.name!r} takes scores of {task.tokenizer.vocab_size} words at every token; this model "
            f"gives {tuple(found.shape)} for ids {tuple(ids.shape)}: take a decoder, or an encoder with "
            'head="masked_lm" where the task is to fill gaps, and vocab_size from the task.'
        )
    return found


def log_frequencies(tokens: Tensor, vocab_size: int) -> Tensor:
    """`(vocab_size,)`: the log of each token's share of these tokens, as if there were one more of each."""
    counts = torch.bincount(tokens, minlength=vocab_size) + 1.0
    return counts.log() - counts.sum().log()


def token_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of `logits` `(b, n, v)` over all targets `(b, n)` that are not `IGNORE`."""
    return F.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE, label_smoothing=label_smoothing
    )


def token_metrics(task: Any, model: nn.Module, split: str, batch_size: int, targets: str) -> dict[str, Any]:
    """Of a task with `logits`, over the targets of all batches, which stand in them under the name `targets`.

    "loss" in nats a target, "perplexity", "accuracy" given the truth so far, and how many "tokens" there are.
    """
    nats, right, tokens = 0.0, 0, 0
    with measuring(model) as device:
        for _, batch in task.batches(split, batch_size, device):
            logits, count = task.logits(model, batch), task.count(batch)
            nats += float(token_loss(logits, batch[targets])) * count
            right += int((logits.argmax(-1) == batch[targets]).sum())
            tokens += count
    loss = nats / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "accuracy": right / tokens,
        "tokens": tokens,
    }


TASKS = {"text": Text}
