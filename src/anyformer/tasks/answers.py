"""How near an answer is to those that people gave: exact match and F1 of words, as SQuAD has them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """In lower case, without punctuation and articles, single spaces between words."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1 where the answer is one of the truths; the answer to a question without one is empty."""
    return float(any(normalized(answer) == normalized(truth) for truth in truths or [""]))


def f1(answer: str, truths: Sequence[str]) -> float:
    """The best harmonic mean of precision and recall of words, over the truths.

    Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1. Where there is no answer, or none is given, 1 if both agree in
    that and 0 otherwise (Rajpurkar et al. 2018, arXiv:1806.03822).
    """
    return max(_f1(normalized(answer).split(), normalized(truth).split()) for truth in truths or [""])


def answer_scores(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> dict[str, float]:
    """The mean "f1" and "exact_match" of answers, each with its truths."""
    pairs = list(zip(answers, truths, strict=True))
    return {
        "f1": sum(f1(*pair) for pair in pairs) / len(pairs),
        "exact_match": sum(exact_match(*pair) for pair in pairs) / len(pairs),
    }


def _f1(answer: list[str], truth: list[str]) -> float:
    if not answer or not truth:
        return float(answer == truth)
    shared = (Counter(answer) & Counter(truth)).total()
    return 2 * shared / (len(answer) + len(truth))
