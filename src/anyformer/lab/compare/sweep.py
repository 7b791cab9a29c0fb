"""The learning rate of each model, by successive halving inside its budget. Readable without torch.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization",
arXiv:1502.07943, algorithm 1: all rates run briefly, the better half runs longer, until one is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anyformer.core.errors import BudgetError, OptionError
from anyformer.lab.budget import Budget

SHARE = 0.25
"""Of the budget, for the whole sweep; every rung has an equal part of it."""

RATES = (3e-4, 1e-3, 3e-3, 1e-2)


@dataclass(frozen=True)
class Rung:
    """`candidates` rates, each trained with `share` of the budget."""

    candidates: int
    share: float


def rungs(rates: int) -> tuple[Rung, ...]:
    """The rungs of a sweep over so many rates: 4 rates are 4 runs of 1/32 of the budget, then 2 of 1/16."""
    sizes = []
    while rates > 1:
        sizes.append(rates)
        rates = math.ceil(rates / 2)
    return tuple(Rung(n, SHARE / len(sizes) / n) for n in sizes)


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """The rates without repetition, lowest first. Raises `OptionError` unless each is a number above zero."""
    if not rates or not all(0 < r < math.inf for r in rates):
        raise OptionError(f"rates are learning rates above zero, such as 3e-4 1e-3 3e-3; given {list(rates)}.")
    return tuple(sorted({float(r) for r in rates}))


def check_steps(steps: float, rates: Sequence[float], who: str, budget: Budget) -> None:
    """Raise `BudgetError` where a budget of so many steps leaves a rung without one."""
    least = min((rung.share for rung in rungs(len(rates))), default=1.0)
    if steps * least < 1:
        needed = math.ceil(1 / least)
        instead = f", or name one rate instead of {len(rates)}" if len(rates) > 1 else ""
        raise BudgetError(
            f"a budget of {budget} is {steps:.3g} steps for {who}, and it takes {needed} to choose a rate and train: "
            f"give {needed / max(steps, 1e-9):.2g} times as much{instead}."
        )


def portion(budget: Budget, share: float) -> Budget:
    """This share of a budget; of steps, as many whole ones as fit."""
    amount = budget.amount * share
    return Budget(math.floor(amount + 1e-9) if budget.unit == "steps" else amount, budget.unit)


def remainder(budget: Budget, spent: float, who: str) -> Budget:
    """What a sweep left. Raises `BudgetError` where it is nothing: single steps took longer than their share."""
    left = budget.amount - spent
    if left <= 0:
        raise BudgetError(f"the choice of the rate used up all of {who}'s {budget}, because single steps of it take "
                          f"longer than their share: give a larger budget, or one rate.")  # fmt: skip
    return Budget(round(left, 3) if budget.unit == "seconds" else left, budget.unit)
