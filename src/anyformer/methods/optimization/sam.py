"""Sharpness-aware minimization: step from where you are by the gradient of the worst place nearby."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anyformer.core.errors import OptionError


class SAM(torch.optim.Optimizer):
    """A base optimizer that steps by the gradient at theta + rho g / |g|, g the gradient at theta.

    Foret et al. 2020, arXiv:2010.01412, equation 2 and algorithm 1. |g| is the norm over all parameters together; the
    base optimizer moves theta itself. Groups of parameters and state are the base optimizer's, so schedules and
    checkpoints see them. Cost: two forward and backward passes a step, and a copy of the parameters.

    >>> optimizer = SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05)
    >>> optimizer.step(lambda: task.loss(model, batch))

    Args:
        base: the optimizer that steps, such as AdamW.
        rho: how far the worst place lies, in the units of the parameters; 0 for the base optimizer's own step.

    Raises:
        OptionError: rho below 0; a step without a closure.
    """

    papers = ("fer_se_swin",)

    def __init__(self, base: torch.optim.Optimizer, rho: float = 0.05):
        if not 0 <= rho < math.inf:
            raise OptionError(f"SAM's rho is a distance of 0 or more; given {rho!r}.")
        self.base, self.rho = base, rho
        super().__init__(base.param_groups, dict(base.defaults))
        self.param_groups, self.state = base.param_groups, base.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.base.param_groups, self.base.state = self.param_groups, self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """One step; returns the loss at theta.

        Args:
            closure: computes the loss, a scalar with a gradient, of the same batch whenever it is called; called twice.
        """
        if closure is None:
            raise OptionError(
                "SAM computes the loss at two places: give step() a function that returns it, as in "
                "optimizer.step(lambda: task.loss(model, batch))."
            )
        loss = self.gradient(closure)
        moved = self.ascend()
        self.gradient(closure)
        for p, kept in moved:
            p.copy_(kept)
        self.base.step()
        self.zero_grad()
        return loss

    def gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        """The loss, with its gradient in the parameters."""
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
            loss.backward()
        return loss.detach()

    def ascend(self) -> list[tuple[Tensor, Tensor]]:
        """Go to the worst place nearby; gives the parameters that moved, with their values before."""
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.rho or not trained:
            return []
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])  # type: ignore[misc]
        kept = [(p, p.clone()) for p in trained]
        for p in trained:
            p.add_(p.grad * (self.rho / (norm + 1e-12)))
        return kept


METHODS = {"sam": SAM}
