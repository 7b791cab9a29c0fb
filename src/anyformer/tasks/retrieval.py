"""Retrieval: the documents that a query asks for, by vectors of both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, OptionError
from anyformer.core.segments import Segments
from anyformer.data.bm25 import BM25
from anyformer.data.retrieval import Run, read_collection, two_names
from anyformer.tasks.ranking_metrics import measure
from anyformer.tasks.task import Baseline, Batch, device_of, measuring, to_device
from anyformer.tasks.texts import TextTask, padded


class Collections(TextTask):
    """Queries and documents, and how runs over them are measured: what retrieval and ranking share.

    Metric: "mrr", the mean of 1 / rank of the first relevant document among the first `k`; beside it "ndcg" and
    "recall" among them, and "map". A sample is a query of the training part with a relevant document.

    Args:
        path: a folder of BEIR's form or a file of triples (`data.retrieval`); a generated collection whose queries
            name things otherwise than its documents do, where not given.
        tokenizer, vocab_size: as `Text`'s, or "words"; learned on the documents and the queries of the training part.
        query_length, length: tokens of a query and of a document that are read; the rest is cut off.
        k: documents that count for a metric.
        queries: of those that are generated, to train on.
        seed: by which queries are generated, or dealt out to the parts.

    Raises:
        DataError: as `data.retrieval.read_collection`; a text that leaves no token.
        OptionError: lengths or a k below 1.
    """

    metric = "mrr"
    higher_is_better = True

    def __init__(
        self,
        path: str | Path | None = None,
        tokenizer: str = "words",
        vocab_size: int = 4096,
        query_length: int = 30,
        length: int = 64,
        k: int = 10,
        queries: int = 6000,
        seed: int = 0,
    ):
        if min(query_length, length, k) < 1:
            raise OptionError(
                f"lengths and k are 1 or more; given query_length={query_length}, length={length}, k={k}."
            )
        self.collection = two_names(queries, seed) if path is None else read_collection(path, seed)
        self.source = self.collection.source
        self.query_length, self.length, self.k = query_length, length, k
        self.names = list(self.collection.documents)
        texts = list(self.collection.documents.values())
        asked = [self.collection.queries[name] for name in self.collection.grades["train"]]
        self.learn(tokenizer, [*texts, *asked], vocab_size)
        self.documents = [
            self.encode(text, length, f"document {name!r}") for name, text in self.collection.documents.items()
        ]
        self.queries = {
            name: self.encode(text, query_length, f"query {name!r}") for name, text in self.collection.queries.items()
        }
        numbers = {name: number for number, name in enumerate(self.names)}
        self.query_numbers = {name: number for number, name in enumerate(self.queries)}
        self.pairs = {
            split: [(q, numbers[d]) for q, own in judged.items() for d, grade in own.items() if grade > 0]
            for split, judged in self.collection.grades.items()
        }
        relevant = {self._key(q, d) for pairs in self.pairs.values() for q, d in pairs}
        self.relevant = torch.tensor(sorted(relevant))
        self.rejected = {q: [numbers[d] for d in own] for q, own in self.collection.rejected.items()}

    def _key(self, query: str, document: int) -> int:
        return self.query_numbers[query] * len(self.names) + document

    def encode(self, text: str, length: int, what: str) -> list[int]:
        """The first tokens of a text. Raises `DataError` where there is none."""
        ids = self.tokenizer.encode(text)[:length]
        if not ids:
            raise DataError(f"the {what} leaves no token: {text[:60]!r}.")
        return ids

    @cached_property
    def bm25(self) -> BM25:
        """BM25 over the documents, whole."""
        return BM25(list(self.collection.documents.values()))

    def size(self, split: str) -> int:
        return len(self.pairs[self.check_split(split)])

    def count(self, batch: Batch) -> int:
        return len(batch["query"])

    def text(self, name: str, rows: Sequence[Sequence[int]]) -> Batch:
        """Ids `(b, n)` under this name and their lengths `(b)` under "NAME_lengths"."""
        return {name: padded(rows, 0), f"{name}_lengths": torch.tensor([len(row) for row in rows])}

    def is_relevant(self, queries: Tensor, documents: Tensor) -> Bool[Tensor, "*b"]:
        """Whether these documents, by number, are relevant to these queries, in any part."""
        return torch.isin(queries * len(self.names) + documents, self.relevant.to(queries.device))

    def lexical(self, split: str, k: int) -> Run:
        """BM25's first k documents of each query."""
        queries = self.collection.queries
        return {
            q: {self.names[i]: score for i, score in self.bm25.best(queries[q], k)}
            for q in self.collection.grades[self.check_split(split)]
        }

    def baseline(self, split: str = "valid") -> Baseline:
        run = self.lexical(split, 1000)
        return Baseline("BM25", measure(run, self.collection.grades[split], self.k)["mrr"], 0.1)

    def run(self, model: nn.Module, split: str, *, batch_size: int = 256) -> Run:
        """Scores of documents for each query of a split, which `data.retrieval.write_run` writes as TREC has them."""
        raise NotImplementedError

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "mrr", "ndcg" and "recall" at k and "map", in [0, 1], over the queries of a split; "loss" in nats a pair."""
        loss, _ = self.mean_loss(model, split, 64)
        run = self.run(model, split, batch_size=batch_size)
        return {**measure(run, self.collection.grades[split], self.k), "loss": loss, "queries": len(run)}

    def found(self, query: str, scores: dict[int, float]) -> dict[str, Any]:
        """What `predict` says of a query: its k "documents", and the text of the "best" (empty where none is found)."""
        order = sorted(scores.items(), key=lambda pair: -pair[1])[: self.k]
        texts = self.collection.documents
        best = [{"name": self.names[i], "score": score, "text": texts[self.names[i]]} for i, score in order]
        return {"input": query, "best": best[0]["text"] if best else "", "documents": best}

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        chosen = list(self.collection.grades[self.check_split(split)].items())[:n]
        return [
            {
                "input": self.collection.queries[q],
                "truth": "\n".join(self.collection.documents[d] for d, grade in own.items() if grade > 0),
            }
            for q, own in chosen
        ]

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "documents": len(self.names),
            "queries": {split: len(judged) for split, judged in self.collection.grades.items()},
        }


class Retrieval(Collections):
    """Find documents by the cosine of their vectors with the query's; one encoder makes both.

    Loss: cross-entropy of each query's document among all of the batch (those that are relevant to it as well do not
    count), cosines divided by a temperature. Karpukhin et al. 2020 (DPR), arXiv:2004.04906, section 3.2. Cost of a
    search: the encoder on the query, and c multiply-adds a document.

    Args:
        temperature: of the cosines.
        path, options: as `Collections`'s.
    """

    name = "retrieval"
    default_model = "lra_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        temperature: float = 0.05,
        **options: Any,
    ):
        if temperature <= 0:
            raise OptionError(f"a temperature is above 0; given {temperature}.")
        super().__init__(path, **options)
        self.temperature = temperature

    def model_options(self) -> dict[str, Any]:
        return {**super().model_options(), "max_length": max(self.query_length, self.length), "num_classes": 0}

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "query" and "document", ids `(b, n)`; their "..._lengths" and "..._number" `(b)`."""
        pairs = [self.pairs[self.check_split(split)][i] for i in indices.tolist()]
        return {
            **self.text("query", [self.queries[q] for q, _ in pairs]),
            **self.text("document", [self.documents[d] for _, d in pairs]),
            "query_number": torch.tensor([self.query_numbers[q] for q, _ in pairs]),
            "document_number": torch.tensor([d for _, d in pairs]),
        }

    def vectors(self, model: nn.Module, batch: Batch, name: str) -> Float[Tensor, "b c"]:
        """Vectors of length one of the texts under this name. Raises `OptionError` for a model that gives none."""
        ids = batch[name]
        found = model(ids, Segments.from_lengths(batch[f"{name}_lengths"], ids.shape[1]))
        if found.dim() != 2 or len(found) != len(ids):
            raise OptionError(
                f"the task {self.name!r} takes a vector for each text, ({len(ids)}, c); the model gives "
                f"{tuple(found.shape)}: take an encoder with num_classes=0 whose head pools, such as lra_micro."
            )
        return F.normalize(found.float(), dim=-1)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        scores = self.vectors(model, batch, "query") @ self.vectors(model, batch, "document").mT / self.temperature
        also = self.is_relevant(batch["query_number"][:, None], batch["document_number"])
        own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        # finite, as a share of a smoothed target would make an infinite loss of what does not count
        scores = scores.masked_fill(also & ~own, -1e4)
        targets = torch.arange(len(scores), device=scores.device)
        return F.cross_entropy(scores, targets, label_smoothing=label_smoothing)

    def _all(self, model: nn.Module, name: str, rows: Sequence[Sequence[int]], batch_size: int) -> Float[Tensor, "n c"]:
        device = device_of(model)
        batches = (rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
        return torch.cat([self.vectors(model, to_device(self.text(name, own), device), name) for own in batches])

    def run(self, model: nn.Module, split: str, *, batch_size: int = 256) -> Run:
        """The 1,000 documents nearest to each query."""
        asked = list(self.collection.grades[self.check_split(split)])
        with measuring(model):
            documents = self._all(model, "document", self.documents, batch_size)
            run = {}
            for at in range(0, len(asked), batch_size):
                own = asked[at : at + batch_size]
                scores = self._all(model, "query", [self.queries[q] for q in own], batch_size) @ documents.mT
                best = scores.topk(min(1000, scores.shape[1]), dim=1)
                for q, values, numbers in zip(own, best.values.tolist(), best.indices.tolist(), strict=True):
                    run[q] = {self.names[i]: value for i, value in zip(numbers, values, strict=True)}
        return run

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> list[dict[str, Any]]:
        """The k best "documents" of each query: their names, cosines and texts."""
        rows = [self.encode(text, self.query_length, "query") for text in inputs]
        with measuring(model):
            documents = self._all(model, "document", self.documents, 256)
            scores = (self._all(model, "query", rows, 256) @ documents.mT).tolist() if rows else []
        return [self.found(text, dict(enumerate(own))) for text, own in zip(inputs, scores, strict=True)]


TASKS = {"retrieval": Retrieval}
