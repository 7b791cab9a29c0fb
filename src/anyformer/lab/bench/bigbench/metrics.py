"""BIG-bench's metrics of answers that were written, of choices that were weighed, and of targets that were weighed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from anyformer.core.errors import DataError

Weighed = Sequence[Mapping[str, float]]
"""For each example the log probability, or the score, of each of its choices."""
Targets = Sequence[Sequence[str]]
"""For each example the texts that answer it."""


@dataclass(frozen=True)
class Metric:
    """A metric over all examples.

    Attributes:
        measure: of what the model said and of what is right, in the order of the examples.
        of: what it measures: "answers" that were written, against targets; "choices", their log probabilities such
            that those of an example add up to 1, against scores; "absolute", the same as the model gives them; or
            "targets", the log probability of each target, against targets.
        low, high: what is poor and excellent, where a task does not say it.
    """

    measure: Callable[[Sequence[Any], Sequence[Any]], float]
    of: Literal["answers", "choices", "absolute", "targets"]
    low: float = 0.0
    high: float = 1.0

    @property
    def choices(self) -> bool:
        """Whether examples have to state scores of choices."""
        return self.of in ("choices", "absolute")


# -- answers ------------------------------------------------------------------------------------------------------


def exact_str_match(answers: Sequence[str], targets: Targets) -> float:
    """The share of answers that are one of their targets, letter for letter."""
    return float(np.mean([answer in right for answer, right in zip(answers, targets, strict=True)]))


def case_insensitive_str_match(answers: Sequence[str], targets: Targets) -> float:
    """The share of answers that are one of their targets but for capitals and for spaces around them."""
    return exact_str_match(
        [answer.strip().lower() for answer in answers], [[t.strip().lower() for t in right] for right in targets]
    )


def sequence_f1(answers: Sequence[str], targets: Targets) -> float:
    """100 times the share of the first target's words that the answer has at the same place, averaged over examples."""
    shares = []
    for answer, right in zip(answers, targets, strict=True):
        wanted = right[0].split(" ")
        given = answer.split(" ")[: len(wanted)]
        given += ["O"] * (len(wanted) - len(given))
        shares.append(np.mean([a == b for a, b in zip(given, wanted, strict=True)]))
    return 100 * float(np.mean(shares))


def numeric_match(answers: Sequence[str], targets: Targets) -> float:
    """The share of answers that are a number within a tenth of the target; of a target of 0, within 0.1.

    A target below 0 is met by any number, as |difference| / target is below a tenth.
    """
    return float(np.mean([_near(answer, right) for answer, right in zip(answers, targets, strict=True)]))


def _near(answer: str, targets: Sequence[str]) -> bool:
    if len(targets) != 1:
        raise DataError(f"numeric_match_with_0_1_relative_error takes one target an example; given {list(targets)}.")
    try:
        wanted, given = float(targets[0]), float(answer)
    except ValueError:
        return False
    return abs(given - wanted) / (wanted if wanted != 0 else 1) <= 0.1


# -- choices ------------------------------------------------------------------------------------------------------


def best(log_probs: Sequence[float]) -> int:
    """The number of the largest; among equal ones it follows from a hash of all, so that no place is favoured."""
    values = np.asarray(log_probs, dtype=np.float64)
    equal = np.flatnonzero(values == values.max())
    return int(equal[int(hashlib.sha256(values.tobytes()).hexdigest(), 16) % len(equal)])


def chosen(log_probs: Mapping[str, float]) -> str:
    """The likeliest choice."""
    return list(log_probs)[best(list(log_probs.values()))]


def multiple_choice_grade(log_probs: Weighed, scores: Weighed) -> float:
    """The mean score of the choices that are likeliest."""
    return float(np.mean([s[chosen(p)] for p, s in zip(log_probs, scores, strict=True)]))


def shares(values: Mapping[str, float]) -> np.ndarray:
    """Scores over their sum, as probabilities; zeros where they add up to 0."""
    scores = np.asarray(list(values.values()), dtype=np.float64)
    return scores / scores.sum() if scores.sum() != 0 else np.zeros_like(scores)


def probabilities(log_probs: Mapping[str, float]) -> np.ndarray:
    """Probabilities of choices, which add up to 1."""
    values = np.asarray(list(log_probs.values()), dtype=np.float64)
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def brier_score(log_probs: Weighed, scores: Weighed) -> float:
    """The mean over all choices of t (p - 1)^2 + (1 - t) p^2, for the probability p and the share t of the scores.

    0 is best. After Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    found = []
    for p, s in zip(log_probs, scores, strict=True):
        weight, right = probabilities(p), shares({choice: s[choice] for choice in p})
        found.append(right * (weight - 1) ** 2 + (1 - right) * weight**2)
    return float(np.mean(np.concatenate(found)))


def expected_calibration_error(log_probs: Weighed, scores: Weighed, bins: int = 15) -> float:
    """How far, in the mean over examples, the likeliest choice's probability is from how often such a choice is right.

    Right is the choice of the largest score. Examples are gathered in `bins` of equal width by that probability.
    Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    confidences, hits = [], []
    for p, s in zip(log_probs, scores, strict=True):
        weight = probabilities(p)
        confidences.append(weight.max())
        hits.append(shares({choice: s[choice] for choice in p}).argmax() == weight.argmax())
    confidence, right = np.array(confidences), np.array(hits, dtype=np.float64)
    places = np.digitize(confidence, [(i + 1) / bins for i in range(bins - 1)])
    gathered = [places == one for one in np.unique(places)]
    # in each bin: its examples times |how often right - how sure|
    return float(sum(abs((right - confidence)[inside].sum()) for inside in gathered) / len(places))


def weighted_log_probabilities(log_probs: Weighed, scores: Weighed) -> float:
    """The mean over examples of the scores' sum of log probabilities: the negative cross-entropy for shares."""
    return float(np.mean([sum(s[c] * p[c] for c in p) for p, s in zip(log_probs, scores, strict=True)]))


def weighted_probabilities(log_probs: Weighed, scores: Weighed) -> float:
    """The mean over examples of the scores' sum of probabilities."""
    return float(np.mean([sum(s[c] * np.exp(p[c]) for c in p) for p, s in zip(log_probs, scores, strict=True)]))


def macro_f1(log_probs: Weighed, scores: Weighed) -> float:
    """F1 of each text that is right or chosen anywhere, averaged over these texts."""
    if any(sorted(s.values())[-1:] != [1.0] or sum(s.values()) != 1 for s in scores):
        raise DataError("macro_f1 takes examples with one choice of score 1, and scores that add up to 1.")
    right = [max(s, key=lambda choice: s[choice]) for s in scores]
    given = [chosen(p) for p in log_probs]
    found = []
    for text in {*right, *given}:
        hits = sum(a == b == text for a, b in zip(right, given, strict=True))
        found.append(2 * hits / (right.count(text) + given.count(text)))
    return float(np.mean(found))


# -- targets ------------------------------------------------------------------------------------------------------


def log_likelihood(log_probs: Sequence[Sequence[float]], targets: Targets) -> float:
    """The mean over examples of the log of their targets' summed probability, in nats."""
    return float(np.mean([np.logaddexp.reduce(row) for row in log_probs]))


def log_likelihood_per_word(log_probs: Sequence[Sequence[float]], targets: Targets) -> float:
    """The mean over examples with one target of its log probability for each word, in nats."""
    return float(np.mean([p[0] / len(right[0].split()) for p, right in zip(log_probs, targets, strict=True)]))


def log_likelihood_per_char(log_probs: Sequence[Sequence[float]], targets: Targets) -> float:
    """The mean over examples with one target of its log probability for each letter, in nats."""
    return float(np.mean([p[0] / len(right[0]) for p, right in zip(log_probs, targets, strict=True)]))


METRICS = {
    "exact_str_match": Metric(exact_str_match, "answers"),
    "case_insensitive_str_match": Metric(case_insensitive_str_match, "answers"),
    "sequence_f1": Metric(sequence_f1, "answers", 0.0, 100.0),
    "numeric_match_with_0_1_relative_error": Metric(numeric_match, "answers"),
    "multiple_choice_grade": Metric(multiple_choice_grade, "choices"),
    "calibration_multiple_choice_brier_score": Metric(brier_score, "choices"),
    "expected_calibration_error": Metric(expected_calibration_error, "choices"),
    "macro_f1": Metric(macro_f1, "choices"),
    "weighted_log_probabilities": Metric(weighted_log_probabilities, "absolute", -10.0, 0.0),
    "weighted_probabilities": Metric(weighted_probabilities, "absolute", -1.0, 1.0),
    "log_likelihood": Metric(log_likelihood, "targets", -10.0, 0.0),
    "log_likelihood_per_word": Metric(log_likelihood_per_word, "targets", -10.0, 0.0),
    "log_likelihood_per_char": Metric(log_likelihood_per_char, "targets", -10.0, 0.0),
}
BESIDE = {
    "multiple_choice_grade": ("calibration_multiple_choice_brier_score", "expected_calibration_error"),
    "log_likelihood": ("log_likelihood_per_word", "log_likelihood_per_char"),
}
"""What is measured where a task asks for a metric."""
SINGLE = BESIDE["log_likelihood"]
"""Metrics that are measured only where no example has several targets."""


def cut_answer(text: str, max_length: int, stop: str | None, pattern: str | None) -> str:
    """What counts of an answer: its first letters, up to and with the stop string, and of them the first match."""
    text = text[:max_length]
    if stop:
        place = text.find(stop)
        text = text[: place + len(stop)] if place > 0 else text
    if pattern:
        found = re.search(pattern, text)
        text = "" if found is None else (found.group(1) or "" if found.re.groups == 1 else found.group())
    return text
