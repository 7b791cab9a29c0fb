"""LoLA-SpecViT's adaptation: low-rank updates of the blocks' dense layers, whose strength goes in cycles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from anyformer.core.errors import FitError, OptionError
from anyformer.methods.adaptation.adapt import adaptations
from anyformer.methods.adaptation.lora import LoRA, adapted

PLACES = ("mixer.qkv", "mixer.out", "ffn.up", "ffn.down")
"""Dense layers of a block that get an update."""


class LoLA(LoRA):
    """W to W + alpha / rank B A in attention and in the MLP of every block; all other weights but the head are frozen.

    Zidi et al. 2025 (LoLA-SpecViT), arXiv:2506.17759: one update for queries, keys and values together,
    one for the output, and one for each of the MLP's outer layers. The authors' code also has a variant with a gate
    and a dense residual beside each update, which cannot be merged and is left out. Starts without effect; alpha 0
    leaves the frozen model as it is.

    Args:
        rank, alpha: as `LoRA`'s.
        places: layers of a block, by their paths in it.

    Raises:
        OptionError: a rank below 1, or a place that no block of the model has.
    """

    name = "lola"
    papers = ("lola_specvit",)

    def __init__(self, *, rank: int = 16, alpha: float = 32.0, places: Sequence[str] = PLACES):
        super().__init__(rank=rank, alpha=alpha, slices="")
        self.places = tuple(places)

    def insert(self, model: nn.Module, name: str) -> list[nn.Parameter]:
        inserted: list[nn.Parameter] = []
        for place in self.places:
            self.pattern = f"*blocks.*.{place}"
            inserted += super().insert(model, name)
        return inserted


class CyclicalStrength:
    """The strength of a model's low-rank updates, in cycles: a cosine from `high` down to `low`, then `high` again.

    At step t of a cycle of `period` steps, low + (high - low) (1 + cos(pi t / period)) / 2 times the alpha / rank that
    the updates were made with. Zidi et al. 2025, arXiv:2506.17759, after the warm restarts of Loshchilov
    and Hutter 2016, arXiv:1608.03983, equation 5. Call `set` before each step of training.

    Args:
        model: with updates by "lora" or "lola".
        low, high: limits of the factor.
        period: steps of a cycle.

    Raises:
        OptionError: limits that are negative or in the wrong order, a period below 1.
        FitError: a model without low-rank updates.
    """

    def __init__(self, model: nn.Module, *, low: float = 0.25, high: float = 1.0, period: int = 100):
        if not 0 <= low <= high or period < 1:
            raise OptionError(
                f"a cycle goes from high down to low, both 0 or more, in 1 step or more; given {high}, {low}, {period}."
            )
        self.low, self.high, self.period = low, high, period
        self.updates = [update for name in adaptations(model) for _, update in adapted(model, name)]
        if not self.updates:
            raise FitError(
                'this model has no low-rank updates to strengthen or weaken: adapt(model, "lola") puts them in.'
            )
        self.made_with = [update.factor for update in self.updates]

    def at(self, step: int) -> float:
        """The factor at a step."""
        wave = (1 + math.cos(math.pi * (step % self.period) / self.period)) / 2
        return self.low + (self.high - self.low) * wave

    def set(self, step: int) -> float:
        """Give the updates their strength at a step; returns the factor."""
        factor = self.at(step)
        for update, original in zip(self.updates, self.made_with, strict=True):
            update.factor = factor * original
        return factor


METHODS = {"lola": LoLA}
