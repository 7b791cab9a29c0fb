"""BM25: documents ranked by the words that they share with a query."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from anyformer.data.captions import words


class BM25:
    """sum_t idf(t) tf / (tf + k1 (1 - b + b length / mean length)), idf = log(1 + (N - df + 0.5) / (df + 0.5)).

    Robertson and Zaragoza 2009, "The probabilistic relevance framework", equation 3.15, with the idf that Lucene has,
    which is never negative. Words are in lower case, not stemmed. Cost of a query: the documents that have its words.

    Args:
        documents: their texts.
        k1, b: how soon more of a word counts no more, and how much long documents are held back.
    """

    def __init__(self, documents: Sequence[str], k1: float = 0.9, b: float = 0.4):
        counts = [Counter(words(text)) for text in documents]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        self.size = len(counts)
        scale = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-12)) if counts else lengths
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, count in enumerate(counts):
            for word, times in count.items():
                postings[word].append((number, times / (times + scale[number])))
        self.postings = {}
        for word, found in postings.items():
            idf = math.log(1 + (self.size - len(found) + 0.5) / (len(found) + 0.5))
            at, weights = zip(*found, strict=True)
            self.postings[word] = np.array(at), idf * np.array(weights)

    def __call__(self, query: str) -> Float[np.ndarray, " n"]:
        """The score of each document."""
        scores = np.zeros(self.size)
        for word in words(query):
            if word in self.postings:
                at, weights = self.postings[word]
                scores[at] += weights
        return scores

    def best(self, query: str, k: int) -> list[tuple[int, float]]:
        """Numbers and scores of the k best documents that share a word with the query, the best first."""
        scores = self(query)
        order = np.argsort(-scores, kind="stable")[:k]
        return [(int(i), float(scores[i])) for i in order if scores[i] > 0]
