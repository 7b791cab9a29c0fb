"""Budgets: how long a run may train, in the unit that its user thinks in. Readable without torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from anyformer.core.errors import BudgetError

Unit = Literal["seconds", "flop", "steps", "epochs"]

_UNITS: dict[str, tuple[Unit, float]] = {
    "s": ("seconds", 1), "sec": ("seconds", 1), "seconds": ("seconds", 1),
    "m": ("seconds", 60), "min": ("seconds", 60), "minutes": ("seconds", 60),
    "h": ("seconds", 3600), "hours": ("seconds", 3600),
    "flop": ("flop", 1), "flops": ("flop", 1),
    "step": ("steps", 1), "steps": ("steps", 1),
    "epoch": ("epochs", 1), "epochs": ("epochs", 1),
}  # fmt: skip

EXAMPLES = "'60s', '5m', '1h', '500steps', '10epochs' or '2e14flop'"


@dataclass(frozen=True)
class Budget:
    """`amount` of `unit`: seconds of training, floating-point operations, optimizer steps, or passes over the data."""

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise BudgetError(f"a budget is more than zero; given {self.amount:g} {self.unit} (write {EXAMPLES}).")
        if self.unit == "steps" and self.amount != int(self.amount):
            raise BudgetError(f"a budget of steps is a whole number; given {self.amount:g}.")

    def __str__(self) -> str:
        return f"{self.amount:g}{'s' if self.unit == 'seconds' else self.unit}"

    def scaled(self, share: float) -> Budget:
        """This share of the budget, at least one step of it: what a sweep may use of a run's budget."""
        amount = self.amount * share
        return Budget(max(1, round(amount)) if self.unit == "steps" else amount, self.unit)


def parse_budget(text: str | Budget) -> Budget:
    """Read a budget such as "60s", "5m", "500steps", "10epochs" or "2e14flop".

    Raises `BudgetError` for zero, negative and unreadable budgets, and for units that there are not.
    """
    if isinstance(text, Budget):
        return text
    match = re.fullmatch(r"\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    if match is None:
        raise BudgetError(f"a budget is a number and a unit, {EXAMPLES}; given {text!r}.")
    number, unit = match[1].replace(",", "").replace("_", ""), match[2].lower()
    if unit not in _UNITS:
        missing = "no unit" if not unit else f"the unit {unit!r}"
        raise BudgetError(f"a budget has a unit, {EXAMPLES}; {text!r} has {missing}.")
    kind, factor = _UNITS[unit]
    return Budget(float(number) * factor, kind)
