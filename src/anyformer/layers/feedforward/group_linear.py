"""Linear layers in groups of channels that do not meet."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal


class GroupLinear(nn.Module):
    """A linear layer whose outputs of a group see the inputs of that group alone: `(..., inputs)` to `(..., outputs)`.

    That is a linear layer with a block-diagonal matrix, at 1 / groups of its parameters and multiply-adds.

    Args:
        inputs, outputs, groups: channels, and groups that both are cut into.
        bias: a bias for each output.
        std: deviation of the first weights (None: what `core.init.starting` says).
        parts: the outputs are so many vectors side by side (2: keys and values), each cut into the groups.

    Raises:
        OptionError: channels that the groups do not divide.
    """

    def __init__(
        self, inputs: int, outputs: int, groups: int, bias: bool = True, *, parts: int = 1, std: float | None = None
    ):
        super().__init__()
        check_groups(groups, "layer", inputs=inputs, outputs=outputs // parts)
        self.groups, self.parts, self.out_features = groups, parts, outputs
        self.weight = nn.Parameter(trunc_normal(torch.empty(outputs, inputs // groups), std))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        weight = self.weight.unflatten(0, (self.parts, self.groups, -1))
        y = torch.einsum("...gi,pgoi->...pgo", x.unflatten(-1, (self.groups, -1)), weight).flatten(-3)
        return y if self.bias is None else y + self.bias


def check_groups(groups: int, part: str, **counts: int) -> None:
    """Raise `OptionError` (a ValueError) where groups do not divide one of these numbers."""
    wrong = {what: n for what, n in counts.items() if groups < 1 or n % groups}
    if wrong:
        what, n = next(iter(wrong.items()))
        fits = [g for g in range(1, min(n, 64) + 1) if all(m % g == 0 for m in counts.values())]
        raise OptionError(
            f"{part}: {groups} groups do not divide {n} ({what}); groups that fit: {', '.join(map(str, fits))}."
        )
