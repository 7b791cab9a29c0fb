"""Srivastava et al. 2022, arXiv:2206.04615: whether ability breaks through at some size depends on the metric.

Simulated models, each token of whose answers is right with a probability that rises evenly over nine sizes, answer one
task in BIG-bench's format. Each answer has five tokens. The same answers are scored as a whole and token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyformer.lab.bench.bigbench.evaluate import evaluate
from anyformer.lab.bench.bigbench.json_task import make_task
from anyformer.lab.bench.bigbench.scores import breakthroughness
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="Models that grow evenly better at each token break through under a metric that wants the whole answer.",
    baseline="The breakthroughness of the same answers, scored token by token.",
    expect=(
        Expect("ratio", at_least=1.5, unit="breakthroughness of exact match over that of single tokens"),
        Expect("per_token_over_line", at_most=1.5, unit="breakthroughness of single tokens over a straight line's"),
    ),
    seeds=(1, 2, 3),
)
SIZES, QUESTIONS, TOKENS, WORDS = 9, 2000, 5, 10


class Simulated:
    """A model that knows each answer, and gets each of its tokens right with the same probability."""

    def __init__(self, answers: dict[str, str], chance: float, dice: np.random.RandomState):
        self.answers, self.chance, self.dice = answers, chance, dice
        self.right = self.asked = 0

    def generate_text(self, inputs: str | Sequence[str], *args: Any, **options: Any) -> Any:
        return self._write(inputs) if isinstance(inputs, str) else [self._write(text) for text in inputs]

    def _write(self, text: str) -> str:
        tokens = self.answers[text].split()
        kept = self.dice.rand(len(tokens)) < self.chance
        self.right, self.asked = self.right + int(kept.sum()), self.asked + len(kept)
        wrong = self.dice.randint(1, WORDS, len(tokens))
        return " ".join(t if k else str((int(t) + w) % WORDS) for t, k, w in zip(tokens, kept, wrong, strict=True))

    def cond_log_prob(self, inputs: Any, targets: Any, absolute_normalization: bool = False) -> Any:
        raise NotImplementedError("a simulated model writes, and weighs no answers")


def measure(seed: int) -> dict[str, float]:
    """Breakthroughness of both scores over the sizes."""
    dice = np.random.RandomState(seed)
    answers = [" ".join(map(str, dice.randint(WORDS, size=TOKENS))) for _ in range(QUESTIONS)]
    task = make_task(
        {
            "name": "repeat",
            "metrics": ["exact_str_match"],
            "examples": [{"input": f"{i}", "target": answer} for i, answer in enumerate(answers)],
        }
    )
    known = dict(zip((task.prompt(i) for i in range(QUESTIONS)), answers, strict=True))
    whole, single = [], []
    for chance in np.linspace(0.1, 0.9, SIZES):
        model = Simulated(known, float(chance), dice)
        (score,) = evaluate(model, task)
        whole.append(score.normalized)
        single.append(100 * model.right / model.asked)
    found = {"exact_match": breakthroughness(whole), "per_token": breakthroughness(single)}
    return {
        **found,
        "ratio": found["exact_match"] / found["per_token"],
        "per_token_over_line": found["per_token"] / (SIZES - 1),
    }
