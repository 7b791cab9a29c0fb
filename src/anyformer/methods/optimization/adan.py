"""Adan: Nesterov momentum without a second gradient, from the difference of successive gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from anyformer.core.errors import OptionError

MOMENTS = ("exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad")
"""State of a parameter, each of its shape: m, v, n and g_{k-1}."""


class Adan(torch.optim.Optimizer):
    """Adaptive Nesterov momentum. Xie et al. 2022, arXiv:2208.06677, algorithm 1.

    With b1, b2, b3 = `betas` (the paper writes 1 - b) and d_k = g_k - g_{k-1}, which is 0 in the first step:

        m = b1 m + (1 - b1) g_k              v = b2 v + (1 - b2) d_k
        n = b3 n + (1 - b3) (g_k + b2 d_k)^2
        x = (x - lr (m' + b2 v') / (sqrt(n') + eps)) / (1 + lr weight_decay)

    where ' divides by 1 - b^k, as the authors' code does. State: four tensors of the parameter's shape; the number of
    steps is kept once for each group. Cost of a step: about 20 operations a parameter.

    Args:
        params: parameters, or groups of them.
        lr: step size; 5 to 10 times that of Adam is the authors' advice.
        betas: decay of the momentum, of the differences, of the squares.
        eps: added to the root of the squares.
        weight_decay: pull to zero, not scaled by the gradients.
        decay: "proximal" (divide by 1 + lr weight_decay, after the step) or "before" (multiply by 1 - lr weight_decay,
            before it, as AdamW).
        max_grad_norm: largest norm of all gradients together; None for no limit. What is clipped is remembered.

    Raises:
        OptionError: a rate outside its limits; a sparse gradient.
    """

    papers = ("adan",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decay: Literal["proximal", "before"] = "proximal",
        max_grad_norm: float | None = None,
    ):
        for option, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise OptionError(f"Adan's {option} is 0 or more; given {value!r}.")
        if len(betas) != 3 or not all(0 <= b < 1 for b in betas):
            raise OptionError(f"Adan takes three betas of at least 0 and below 1; given {betas!r}.")
        if decay not in ("proximal", "before"):
            raise OptionError(f"Adan's decay is 'proximal' or 'before'; given {decay!r}.")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise OptionError(f"Adan's max_grad_norm is more than 0, or None; given {max_grad_norm!r}.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "decay": decay})
        self.max_grad_norm = max_grad_norm

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        # A tensor, so that a checkpoint can be read into it.
        super().add_param_group({"step": torch.zeros((), dtype=torch.float64), **param_group})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step. `closure` computes the loss anew, with gradients, and its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        if any(p.grad.is_sparse for params in found for p in params):
            raise OptionError("Adan keeps the last gradient whole and takes no sparse ones: set sparse=False.")
        self.clip([p.grad for params in found for p in params])
        for group, params in zip(self.param_groups, found, strict=True):
            group["step"] += 1
            if params:
                self.update(params, group)
        return loss

    def clip(self, grads: list[Tensor]) -> None:
        """Scale the gradients, in place, down to the largest norm allowed."""
        if self.max_grad_norm is None or not grads:
            return
        norm = torch.nn.utils.get_total_norm(grads)
        torch._foreach_mul_(grads, (self.max_grad_norm / (norm + self.defaults["eps"])).clamp(max=1.0))

    def update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """The equations, for all parameters of a group at once."""
        grads: list[Tensor] = [p.grad for p in params]  # type: ignore[misc]
        first = int(group["step"]) == 1
        for p, g in zip(params, grads, strict=True):
            state = self.state[p]
            for name in MOMENTS:
                if name not in state:
                    state[name] = g.clone() if name == "previous_grad" else torch.zeros_like(p)
            if first:
                state["previous_grad"].copy_(g)
        m, v, n, previous = ([self.state[p][name] for p in params] for name in MOMENTS)
        b1, b2, b3 = group["betas"]
        c1, c2, c3 = (1 - b ** int(group["step"]) for b in group["betas"])
        lr, shrink = group["lr"], group["lr"] * group["weight_decay"]

        difference = torch._foreach_sub(grads, previous)
        torch._foreach_lerp_(m, grads, 1 - b1)
        torch._foreach_lerp_(v, difference, 1 - b2)
        extrapolated = torch._foreach_add(grads, difference, alpha=b2)
        torch._foreach_mul_(n, b3)
        torch._foreach_addcmul_(n, extrapolated, extrapolated, 1 - b3)
        torch._foreach_copy_(previous, grads)

        scale = torch._foreach_sqrt(n)
        torch._foreach_div_(scale, math.sqrt(c3))
        torch._foreach_add_(scale, group["eps"])
        if group["decay"] == "before":
            torch._foreach_mul_(params, 1 - shrink)
        torch._foreach_addcdiv_(params, m, scale, -lr / c1)
        torch._foreach_addcdiv_(params, v, scale, -lr * b2 / c2)
        if group["decay"] == "proximal":
            torch._foreach_div_(params, 1 + shrink)


METHODS = {"adan": Adan}
