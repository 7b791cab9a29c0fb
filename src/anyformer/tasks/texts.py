"""What tasks on texts share: a tokenizer that is learned on the training part, and rows of its tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from anyformer.data.tokenizers import Marked, make_tokenizer
from anyformer.tasks.task import IGNORE, Batch, Task


class TextTask(Task):
    """A task whose samples are rows of a tokenizer's tokens. One that inherits it sets what is named here.

    Attributes:
        marks: names of the tokens beside those of the texts that the task needs.
        source: where the texts come from.
        length: tokens of the longest row, which a model has to take.
        tokenizer, tokenizer_name: by `learn`.
    """

    marks: Sequence[str] = ()
    source: str
    length: int
    tokenizer: Any
    tokenizer_name: str

    def learn(self, tokenizer: str, texts: Iterable[str], vocab_size: int) -> None:
        """Set the tokenizer of this name, learned on texts where it is learned, with the task's marks behind it."""
        inner = make_tokenizer(tokenizer, "\n\n".join(texts), vocab_size)
        self.tokenizer_name, self.tokenizer = tokenizer, Marked(inner, self.marks) if self.marks else inner

    def model_options(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size, "max_length": self.length}

    def count(self, batch: Batch) -> int:
        return int((batch["targets"] != IGNORE).sum())

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.source,
            "tokenizer": self.tokenizer_name,
            "vocab_size": self.tokenizer.vocab_size,
            "length": self.length,
        }


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """`(b, longest)` int64, filled up on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def digest(texts: Iterable[str]) -> str:
    """Twelve signs that tell these texts from others."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
