"""The sentence structural objective: does a sentence come after another one, before it, or from another text?

Wang et al. 2019 (StructBERT), arXiv:1908.04577, section 2.2; half of PoNet's pretraining (Tan et al. 2021,
arXiv:2110.02442, section 3.3), beside masked words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyformer.core.errors import DataError

S = TypeVar("S")
NEXT, PREVIOUS, OTHER = range(3)
"""What the second sentence of a pair is to the first."""


@dataclass(frozen=True)
class Pair(Generic[S]):
    """Two sentences, and what the second is to the first: `NEXT`, `PREVIOUS` or `OTHER`."""

    first: S
    second: S
    label: int


def sentence_pairs(
    documents: Sequence[Sequence[S]], count: int, *, kinds: Sequence[int] = (NEXT, PREVIOUS, OTHER), seed: int = 0
) -> list[Pair[S]]:
    """Pairs of sentences to tell apart; each of the kinds is as likely.

    A document is drawn by how many neighbours it has, so that every two neighbouring sentences are as likely; the other
    text's sentence is any of another document.

    Args:
        documents: texts as lists of sentences, each a string or a list of ids.
        count: pairs to draw.
        kinds: of pairs: all three here, `NEXT` and `OTHER` in BERT (arXiv:1810.04805, section 3.1, task 2), `NEXT` and
            `PREVIOUS` in ALBERT (arXiv:1909.11942, section 3.1).
        seed: makes them the same again.

    Raises:
        DataError: fewer than two documents with a sentence, or none with two.
    """
    texts = [text for text in documents if len(text)]
    neighbours = [len(text) - 1 for text in texts]
    if len(texts) < 2 or not any(neighbours):
        raise DataError(
            f"pairs of sentences come from two documents or more, one of which has two sentences; given {len(texts)} "
            f"with {max(map(len, texts), default=0)} sentences at most: split the text where its topic changes."
        )
    generator = random.Random(seed)
    pairs = []
    for text in generator.choices(range(len(texts)), neighbours, k=count):
        at, label = generator.randrange(neighbours[text]), kinds[generator.randrange(len(kinds))]
        first, second = texts[text][at : at + 2]
        if label == PREVIOUS:
            first, second = second, first
        elif label == OTHER:
            elsewhere = generator.randrange(len(texts) - 1)
            second = generator.choice(texts[elsewhere + (elsewhere >= text)])
        pairs.append(Pair(first, second, label))
    return pairs


METHODS = {"sentence_pairs": sentence_pairs}
