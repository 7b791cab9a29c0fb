"""Language modelling of short documents: packed into rows without padding, none of them seeing another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.data.documents import deal, pydoc_paragraphs, read_documents
from anyformer.tasks.language import Text, check_causal, check_length
from anyformer.tasks.task import Batch
from anyformer.tasks.texts import digest


class Documents(Text):
    """Predict each next token of documents, and where they end. Loss and metric: as `Text`'s; an end costs bits too.

    Documents follow each other in one stream, each behind an "end", which also ends the one before; rows of `length`
    tokens are cut from it. Models are told of them as `Segments`, so that no token sees another document, states start
    anew, and positions count from each document's start.

    Args:
        path: a .jsonl file (objects with "text"), a text file with a document a line, or a folder with a file for
            each; the paragraphs of Python's own documentation where not given.
        tokenizer, length, vocab_size, encoding: as `Text`'s.
        seed: by which documents are dealt out to the parts.
    """

    name = "documents"
    marks = ("end",)

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "bytes",
        length: int = 256,
        vocab_size: int = 1024,
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        check_length(length)
        documents = pydoc_paragraphs() if path is None else read_documents(path, encoding)
        self.source = "paragraphs of pydoc_data.topics" if path is None else str(path)
        parts = deal(documents, self.source, seed=seed)
        self.digest, self.length = digest(documents), length
        self.learn(tokenizer, parts["train"], vocab_size)
        end = self.tokenizer.marks["end"]
        self.documents = {split: len(part) for split, part in parts.items()}
        self.tokens, self.numbers, self.bytes = {}, {}, {}
        for split, part in parts.items():
            encoded = [[end, *self.tokenizer.encode(document)] for document in part]
            lengths = torch.tensor([len(tokens) for tokens in encoded])
            self.tokens[split] = torch.tensor([token for tokens in encoded for token in tokens] + [end])
            self.numbers[split] = torch.arange(len(part) + 1).repeat_interleave(
                torch.cat([lengths, torch.ones(1).long()])
            )
            self.bytes[split] = sum(self._bytes_of(document) for document in part)
            if len(self.tokens[split]) < length + 1:
                raise DataError(
                    f"the {split} part of {self.source} has {len(part)} documents of {len(self.tokens[split])} tokens "
                    f"in all, fewer than a row of {length}: give more, or length={len(self.tokens[split]) - 1} or less."
                )

    def _bytes_of(self, document: str) -> int:
        whole = document if self.tokenizer.lossless else self.tokenizer.decode(self.tokenizer.encode(document))
        return len(whole.encode())

    def _predicted(self, split: str) -> int:
        """All bytes: the first token of the stream is an end."""
        return self.bytes[split]

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "ids", "targets" and "documents" `(b, length)`: which document of the row each token is of, from 1."""
        at = self.places(split, indices, seed=seed, train=train)[:, :-1]
        numbers = self.numbers[split][at.clamp(max=len(self.numbers[split]) - 1)]
        batch = super().sample(split, indices, seed=seed, train=train)
        return {**batch, "documents": numbers - numbers[:, :1] + 1}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        check_causal(model)
        check_packing(model)
        return model(batch["ids"], Segments(batch["documents"]))

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "documents": self.documents}


def check_packing(model: nn.Module) -> None:
    """Raise `FitError` where documents in one row would see each other."""
    leaks = {m.name for m in model.modules() if isinstance(m, TokenMixer) and not m.packing}
    if leaks:
        raise FitError(
            f"{', '.join(sorted(leaks))} would let documents that are packed into one row see each other: take mixers "
            "that keep them apart (packing), such as attention or mamba, or the task 'text'."
        )


TASKS = {"documents": Documents}
