"""Ranking: documents in the order of how well they fit a query, by a model that reads both together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, OptionError
from anyformer.core.segments import Segments
from anyformer.data.retrieval import Run
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.tasks.retrieval import Collections
from anyformer.tasks.task import Batch, device_of, measuring, to_device

NEGATIVES = 0
"""First stream of random numbers: which documents a query is shown beside its own."""


class Ranking(Collections):
    """Order what BM25 finds by a model that reads query and document together, such as TKL.

    Loss: cross-entropy of a relevant document among `negatives` that are not: of those that a triple gives for the
    query, else of BM25's candidates, else any; drawn anew each epoch. A run reranks BM25's first `candidates`, so what
    BM25 misses is lost.

    Args:
        candidates: documents of BM25 that are ranked anew.
        negatives: documents beside the relevant one.
        path, queries, options: as `Collections`'s.
    """

    name = "ranking"
    papers = ("tkl",)
    default_model = "tkl_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        candidates: int = 50,
        negatives: int = 3,
        queries: int = 2000,
        **options: Any,
    ):
        if min(candidates, negatives) < 1:
            raise OptionError(
                f"candidates and negatives are 1 or more; given candidates={candidates}, negatives={negatives}."
            )
        super().__init__(path, queries=queries, **options)
        self.candidates, self.negatives = candidates, negatives
        self._others: dict[str, list[int]] = {}

    def model_options(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size}

    def others(self, query: str) -> list[int]:
        """Documents, by number, that a query is shown and that are not relevant; found once."""
        if query not in self._others:
            number = self.query_numbers[query]
            found = self.rejected.get(query)
            if not found:
                found = [i for i, _ in self.bm25.best(self.collection.queries[query], self.candidates)]
            for drawn in (found, range(len(self.names))):
                numbers = torch.tensor(list(drawn), dtype=torch.long)
                kept = numbers[~self.is_relevant(torch.full_like(numbers, number), numbers)]
                if len(kept):
                    break
            else:
                raise DataError(f"all documents are relevant to the query {query!r}: there is nothing to tell apart.")
            self._others[query] = kept.tolist()
        return self._others[query]

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "query" `(b, q)`, "document" `(b, 1 + negatives, n)`, the relevant one first; "..._lengths" of both."""
        pairs = [self.pairs[self.check_split(split)][i] for i in indices.tolist()]
        seeds = sample_seeds(seed if train else 0, indices)
        draws = torch.stack([uniform(seeds, NEGATIVES + i) for i in range(self.negatives)], 1).tolist()
        rows = []
        for (q, d), own in zip(pairs, draws, strict=True):
            others = self.others(q)
            rows += [d, *(others[int(draw * len(others))] for draw in own)]
        shown = self.text("document", [self.documents[d] for d in rows])
        return {
            **self.text("query", [self.queries[q] for q, _ in pairs]),
            **{name: tensor.unflatten(0, (len(pairs), -1)) for name, tensor in shown.items()},
        }

    def scores(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b d"]:
        """What the model says of each query with each of its documents. Raises `OptionError` for another model."""
        documents = batch["document"]
        if not getattr(model, "interaction", False):
            raise OptionError(
                f"the task {self.name!r} takes a model that scores pairs of a query and a document, such as tkl_micro; "
                f"given {getattr(model, 'name', type(model).__name__)}: for an encoder there is the task 'retrieval'."
            )
        many = documents.shape[1]
        query, sizes = (batch[name].repeat_interleave(many, 0) for name in ("query", "query_lengths"))
        found = model(
            query,
            documents.flatten(0, 1),
            Segments.from_lengths(sizes, query.shape[1]),
            Segments.from_lengths(batch["document_lengths"].flatten(), documents.shape[2]),
        )
        return found.float().view(-1, many)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        scores = self.scores(model, batch)
        return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long), label_smoothing=label_smoothing)

    def rerank(self, model: nn.Module, query: Sequence[int], documents: Sequence[int], batch_size: int) -> list[float]:
        """Scores of documents, by number, for one query of these tokens."""
        device, found = device_of(model), []
        for at in range(0, len(documents), batch_size):
            shown = self.text("document", [self.documents[i] for i in documents[at : at + batch_size]])
            batch = self.text("query", [query]) | {name: tensor[None] for name, tensor in shown.items()}
            found += self.scores(model, to_device(batch, device))[0].tolist()
        return found

    def run(self, model: nn.Module, split: str, *, batch_size: int = 256) -> Run:
        """BM25's candidates with the model's scores."""
        run: Run = {}
        with measuring(model):
            for q in self.collection.grades[self.check_split(split)]:
                numbers = [i for i, _ in self.bm25.best(self.collection.queries[q], self.candidates)]
                scores = self.rerank(model, self.queries[q], numbers, batch_size)
                run[q] = {self.names[i]: score for i, score in zip(numbers, scores, strict=True)}
        return run

    def predict(self, model: nn.Module, inputs: Sequence[str]) -> list[dict[str, Any]]:
        """The k best "documents" of each query among BM25's candidates: their names, scores and texts."""
        found = []
        with measuring(model):
            for text in inputs:
                query = self.encode(text, self.query_length, "query")
                numbers = [i for i, _ in self.bm25.best(text, self.candidates)]
                scores = self.rerank(model, query, numbers, 256)
                found.append(self.found(text, dict(zip(numbers, scores, strict=True))))
        return found


TASKS = {"ranking": Ranking}
