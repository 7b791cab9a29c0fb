"""How good orders of documents are, as trec_eval measures them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anyformer.data.retrieval import Judged, Run


def ranked(scores: dict[str, float]) -> list[str]:
    """Documents, the best first; of equal ones, the one whose name is later in the alphabet, as trec_eval does."""
    return sorted(sorted(scores, reverse=True), key=lambda name: -scores[name])


def reciprocal_rank(grades: Sequence[int], k: int) -> float:
    """One over the rank of the first relevant document among the first k; 0 without one. `grades` in ranked order."""
    return next((1 / rank for rank, grade in enumerate(grades[:k], 1) if grade > 0), 0.0)


def recall(grades: Sequence[int], relevant: int, k: int) -> float:
    """Share of all relevant documents that is among the first k."""
    return sum(grade > 0 for grade in grades[:k]) / relevant


def average_precision(grades: Sequence[int], relevant: int) -> float:
    """Mean over all relevant documents of the precision where each stands; those that are not ranked count 0."""
    total, hits = 0.0, 0
    for rank, grade in enumerate(grades, 1):
        if grade > 0:
            hits += 1
            total += hits / rank
    return total / relevant


def ndcg(grades: Sequence[int], judged: Sequence[int], k: int) -> float:
    """Sum of grade / log2(rank + 1) over the first k, over that of the best order of all judged documents.

    Jarvelin and Kekalainen 2002, with the grades as gains.
    """

    def gain(order: Sequence[int]) -> float:
        return sum(max(grade, 0) / math.log2(rank + 1) for rank, grade in enumerate(order[:k], 1))

    return gain(grades) / gain(sorted(judged, reverse=True))


def measure(run: Run, judged: Judged, k: int = 10) -> dict[str, float]:
    """ "mrr", "ndcg" and "recall" among the first k, and "map", in [0, 1]: means over all queries that have a relevant
    document. A query that the run does not rank counts 0."""
    sums = dict.fromkeys(("mrr", "ndcg", "recall", "map"), 0.0)
    chosen = {query: own for query, own in judged.items() if any(grade > 0 for grade in own.values())}
    for query, own in chosen.items():
        grades = [own.get(name, 0) for name in ranked(run.get(query, {}))]
        relevant = sum(grade > 0 for grade in own.values())
        sums["mrr"] += reciprocal_rank(grades, k)
        sums["ndcg"] += ndcg(grades, list(own.values()), k)
        sums["recall"] += recall(grades, relevant, k)
        sums["map"] += average_precision(grades, relevant)
    return {name: total / max(len(chosen), 1) for name, total in sums.items()}
