"""Search by a generator of designs: it proposes, hard limits reject, an inquisitor measures, the generator learns.

Wong et al. 2023 (TurboViT), arXiv:2308.11421, equation 1, after generative synthesis, arXiv:1809.05989: find the
generator whose designs all keep the limits and are best. The paper does not publish its generator. Here it is a
distribution over the choices, each on its own, that moves towards the best designs found (the cross-entropy method,
Rubinstein 1999). Limits are hard: no design that breaks one is measured or returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from anyformer.core.errors import BudgetError, OptionError

Design = dict[str, Any]
"""A value for each choice."""


@dataclass(frozen=True)
class Limit:
    """A number that no design may exceed.

    Attributes:
        name: of the number, such as "multiply-adds".
        measure: the number of a design; cheap, as it is taken of every proposal.
        at_most: the limit.
    """

    name: str
    measure: Callable[[Design], float]
    at_most: float


@dataclass(frozen=True)
class Trial:
    """A design that kept all limits, and what the inquisitor said: larger is better."""

    design: Design
    score: float
    round: int


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: the trial of the highest score; the first of equals.
        trials: all of them, in the order in which they were measured.
        probabilities: the generator in the end, a probability for each value of each choice.
    """

    best: Trial
    trials: tuple[Trial, ...]
    probabilities: dict[str, tuple[float, ...]]


class DesignGenerator:
    """Proposes designs: a categorical distribution for each choice, uniform at first.

    Args:
        choices: the values of each choice.
        seed: of its draws.

    Raises:
        OptionError: no choice, or a choice without a value.
    """

    def __init__(self, choices: Mapping[str, Sequence[Any]], seed: int = 0):
        empty = [name for name, values in choices.items() if not len(values)]
        if not choices or empty:
            raise OptionError(f"a search chooses between values; given none for {', '.join(empty) or 'any choice'}.")
        self.choices = {name: tuple(values) for name, values in choices.items()}
        self.weights = {n: torch.full((len(v),), 1 / len(v), dtype=torch.float64) for n, v in self.choices.items()}
        self.random = torch.Generator().manual_seed(seed)

    def propose(self) -> Design:
        """One design, drawn."""
        drawn = {name: int(torch.multinomial(w, 1, generator=self.random)) for name, w in self.weights.items()}
        return {name: self.choices[name][i] for name, i in drawn.items()}

    def learn(self, designs: Sequence[Design], rate: float) -> None:
        """Move towards the shares of values among these designs: (1 - rate) old + rate share.

        One more design counts, with an equal part of each value, so that none becomes impossible.
        """
        for name, values in self.choices.items():
            count = torch.tensor([sum(d[name] == v for d in designs) for v in values], dtype=torch.float64)
            self.weights[name] = (1 - rate) * self.weights[name] + rate * (count + 1 / len(values)) / (len(designs) + 1)


def generative_search(
    choices: Mapping[str, Sequence[Any]],
    score: Callable[[Design], float],
    limits: Sequence[Limit] = (),
    *,
    rounds: int = 4,
    proposals: int = 8,
    elite: float = 0.25,
    rate: float = 0.7,
    tries: int = 2000,
    seed: int = 0,
) -> Found:
    """The best design that a generator finds within hard limits. Cost: rounds proposals scores.

    Before the first round the generator learns from feasible designs alone, so that limits shape it from the start.
    No design is measured twice.

    Args:
        choices: the values of each choice; a design has one of each.
        score: what a design is worth, larger is better, e.g. its accuracy after a short training.
        limits: numbers that no design may exceed.
        rounds, proposals: how often the generator learns, and new feasible designs that are measured each time.
        elite: share of all measured designs that it learns from.
        rate: how far it moves.
        tries: draws after which limits count as infeasible, or the space as exhausted.
        seed: of all draws.

    Raises:
        BudgetError: no design keeps all limits; the tightest is named, and how near a design comes.
        OptionError: no choices; numbers outside their range.
    """
    if min(rounds, proposals, tries) < 1 or not 0 < elite <= 1 or not 0 < rate <= 1:
        raise OptionError(
            "a search takes rounds, proposals and tries of 1 or more, and elite and rate above 0 and at most 1; given "
            f"rounds={rounds}, proposals={proposals}, tries={tries}, elite={elite:g}, rate={rate:g}."
        )
    generator = DesignGenerator(choices, seed)
    gate = _Gate(limits)
    feasible = gate.feasible(generator, proposals, tries, known=())
    if not feasible:
        raise gate.infeasible(tries)
    generator.learn(feasible, rate)
    trials: list[Trial] = []
    for number in range(rounds):
        new = feasible if number == 0 else gate.feasible(generator, proposals, tries, [t.design for t in trials])
        trials += [Trial(design, float(score(design)), number) for design in new]
        ranked = sorted(trials, key=lambda t: -t.score)
        generator.learn([t.design for t in ranked[: max(1, round(elite * len(ranked)))]], rate)
    best = max(trials, key=lambda t: t.score)
    return Found(best, tuple(trials), {n: tuple(w.tolist()) for n, w in generator.weights.items()})


class _Gate:
    """Lets designs through that keep all limits, and remembers how near the others came."""

    def __init__(self, limits: Sequence[Limit]):
        self.limits = limits
        self.kept = [0] * len(limits)
        self.least = [float("inf")] * len(limits)

    def admits(self, design: Design) -> bool:
        """Whether a design keeps all limits."""
        numbers = [limit.measure(design) for limit in self.limits]
        kept = [number <= limit.at_most for number, limit in zip(numbers, self.limits, strict=True)]
        self.kept = [n + k for n, k in zip(self.kept, kept, strict=True)]
        self.least = [min(a, b) for a, b in zip(self.least, numbers, strict=True)]
        return all(kept)

    def feasible(self, generator: DesignGenerator, count: int, tries: int, known: Sequence[Design]) -> list[Design]:
        """Up to `count` new feasible designs, from at most `tries` draws."""
        found: list[Design] = []
        refused: list[Design] = []
        for _ in range(tries):
            design = generator.propose()
            if design in found or design in known or design in refused:
                continue
            (found if self.admits(design) else refused).append(design)
            if len(found) == count:
                break
        return found

    def infeasible(self, tries: int) -> BudgetError:
        """The error that names the tightest limit: the one that the fewest designs keep."""
        tightest = min(range(len(self.limits)), key=lambda i: self.kept[i])
        limit, least = self.limits[tightest], self.least[tightest]
        return BudgetError(
            f"none of {tries} designs drawn from this space keeps all limits. The tightest is {limit.name} of at most "
            f"{limit.at_most:g}: {self.kept[tightest]} of them keep it, and the least is {least:g}. Raise it, or give "
            "smaller values to choose from."
        )


METHODS = {"generative_search": generative_search}
