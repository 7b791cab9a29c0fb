"""When a run ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anyformer.core.errors import BudgetError
from anyformer.lab.budget import Budget


@dataclass(frozen=True)
class Limit:
    """When a run ends: after `steps`, or after `seconds` of training."""

    steps: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(budget: Budget, epoch_steps: int, step_flop: int) -> Limit:
        """A budget in steps or seconds. Raises `BudgetError` for one that ends before the first step."""
        if budget.unit == "seconds":
            return Limit(seconds=budget.amount)
        if budget.unit == "flop" and budget.amount < step_flop:
            raise BudgetError(
                f"a budget of {budget} ends before the first step, which takes {step_flop:.2g}flop: "
                f"give more, or a smaller batch or model."
            )
        per_unit = {"steps": 1.0, "epochs": epoch_steps, "flop": 1 / max(step_flop, 1)}[budget.unit]
        return Limit(steps=max(1, math.floor(budget.amount * per_unit)))

    @property
    def timed(self) -> bool:
        """Whether the clock decides."""
        return self.seconds is not None

    def done(self, step: float, seconds: float) -> float:
        """Share of the budget that is used up, 1 or more at its end."""
        return step / self.steps if self.steps is not None else seconds / (self.seconds or 1)
