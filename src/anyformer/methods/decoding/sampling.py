"""From the scores of the next id to an id: the likeliest, or one drawn from the likelier ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError


@dataclass(frozen=True)
class Sampling:
    """What may be drawn, and how boldly.

    Args:
        temperature: scores are divided by it; 0 takes the likeliest id.
        top_k: only the k likeliest ids (Fan et al. 2018, arXiv:1805.04833).
        top_p: only the likeliest ids whose probabilities add up to p (Holtzman et al. 2019, arXiv:1904.09751).
        min_p: only ids at least `min_p` times as probable as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
        repetition_penalty: scores of ids that were there before are divided by it where positive, and multiplied by it
            where negative (Keskar et al. 2019, arXiv:1909.05858, section 4.1).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self):
        bounds = {
            "temperature": (self.temperature >= 0, "0 (the likeliest id) or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (self.min_p is None or 0 <= self.min_p <= 1, "0 to 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0; 1 changes nothing"),
        }
        for name, (good, accepted) in bounds.items():
            if not good:
                raise OptionError(f"{name} is {accepted}; given {getattr(self, name)}.")

    def penalized(self, logits: Float[Tensor, "b v"], seen: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """The scores with those of ids in `seen` made less likely."""
        if self.repetition_penalty == 1.0:
            return logits
        scores = logits.gather(1, seen)
        scores = torch.where(scores > 0, scores / self.repetition_penalty, scores * self.repetition_penalty)
        return logits.scatter(1, seen, scores)

    def probabilities(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """What is drawn from, at a temperature above 0: each row adds up to 1."""
        logits = logits.float() / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], float("-inf"))
        chances = logits.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            ordered, order = chances.sort(-1, descending=True)
            before = ordered.cumsum(-1) - ordered
            chances = chances.masked_fill((before >= self.top_p).scatter(1, order, before >= self.top_p), 0)
        if self.min_p:
            chances = chances.masked_fill(chances < self.min_p * chances.amax(-1, keepdim=True), 0)
        return chances / chances.sum(-1, keepdim=True)

    def choose(
        self, logits: Float[Tensor, "b v"], seen: Int[Tensor, "b n"], draws: list[torch.Generator]
    ) -> Int[Tensor, " b"]:
        """The next id of each row; row i draws from `draws[i]`, so that it does not depend on the rows beside it."""
        logits = self.penalized(logits, seen)
        if self.temperature == 0:
            return logits.argmax(-1)
        rising = self.probabilities(logits).double().cumsum(-1)
        at = torch.cat([torch.rand(1, 1, generator=draw, dtype=torch.float64) for draw in draws]).to(rising.device)
        # the first id whose rising sum exceeds the draw: never one of probability 0
        return torch.searchsorted(rising, at * rising[:, -1:], right=True)[:, 0].clamp(max=rising.shape[-1] - 1)
