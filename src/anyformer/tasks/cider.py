"""CIDEr-D: how near captions are to what people say of the same images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Grams = Counter[tuple[str, ...]]
LONGEST, WIDTH = 4, 6.0
"""Words of the longest sequences that are counted; deviation, in words, of the penalty for another length."""


class Cider:
    """CIDEr-D of a caption for each image, 0 to 10.

    Sequences of 1 to 4 words, weighed by how few images they are said of (tf-idf), compared by cosine with counts
    clipped to the reference's and a Gaussian penalty exp(-(l_c - l_s)^2 / (2 sigma^2)), sigma = 6; the mean over
    references and lengths, times 10. Vedantam et al. 2015, arXiv:1411.5726. Unlike the common
    script it does not stem words.

    Args:
        references: captions of each image, as words; one or more each.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]):
        self.references = [[grams(caption) for caption in own] for own in references]
        self.images = len(references)
        self.seen: Grams = Counter(g for own in self.references for g in set().union(*(c.keys() for c in own)))

    def __call__(self, captions: Sequence[Sequence[str]], images: Sequence[int] | None = None) -> Float[Tensor, " n"]:
        """Scores of captions, as words, of these images (all in their order unless given)."""
        chosen = range(self.images) if images is None else images
        return torch.tensor([self._one(grams(c), self.references[i]) for c, i in zip(captions, chosen, strict=True)])

    def _one(self, caption: Grams, references: Sequence[Grams]) -> float:
        return 10 * sum(self._near(caption, reference) for reference in references) / len(references)

    def _near(self, caption: Grams, reference: Grams) -> float:
        ours, theirs = self._weigh(caption), self._weigh(reference)
        apart = _length(caption) - _length(reference)
        total = 0.0
        for n in range(LONGEST):
            scale = math.hypot(*ours[n].values()) * math.hypot(*theirs[n].values())
            shared = sum(min(weight, theirs[n].get(g, 0.0)) * theirs[n].get(g, 0.0) for g, weight in ours[n].items())
            total += shared / scale if scale else 0.0
        return total / LONGEST * math.exp(-(apart**2) / (2 * WIDTH**2))

    def _weigh(self, counts: Grams) -> list[dict[tuple[str, ...], float]]:
        """Count times log(images / images of which it is said), for each length."""
        weighed: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        for gram, count in counts.items():
            weighed[len(gram) - 1][gram] = count * math.log(self.images / max(1, self.seen[gram]))
        return weighed


def grams(caption: Sequence[str]) -> Grams:
    """All sequences of 1 to 4 words, counted."""
    return Counter(tuple(caption[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(caption) - n + 1))


def _length(counts: Grams) -> int:
    return sum(count for gram, count in counts.items() if len(gram) == 1)
