"""Put a BIG-bench task to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from anyformer.core.errors import OptionError
from anyformer.lab.bench.bigbench.interface import ModelInterface
from anyformer.lab.bench.bigbench.json_task import AGGREGATE, Example, JsonTask
from anyformer.lab.bench.bigbench.metrics import METRICS, SINGLE
from anyformer.lab.bench.bigbench.scores import normalized


@dataclass(frozen=True)
class ScoreData:
    """What a model reached in a task.

    Attributes:
        task: its name.
        scores: every metric.
        preferred: the one that counts.
        low, high: what is poor and excellent in it.
        shots: solved examples before each question.
        parts: of its subtasks.
    """

    task: str
    scores: Mapping[str, float]
    preferred: str
    low: float
    high: float
    shots: int = 0
    parts: tuple[ScoreData, ...] = ()

    @property
    def normalized(self) -> float:
        """The preferred score between 0, poor, and 100, excellent."""
        return normalized(self.scores[self.preferred], self.low, self.high)


class ProgrammaticTask(Protocol):
    """A task that asks the model what it wants, as often as it wants."""

    def evaluate_model(
        self, model: ModelInterface, max_examples: int = -1, random_seed: int = 42
    ) -> list[ScoreData]: ...


def evaluate(
    model: ModelInterface,
    task: JsonTask | ProgrammaticTask,
    *,
    shots: int = 0,
    max_examples: int = -1,
    max_length: int = 128,
    seed: int = 42,
) -> list[ScoreData]:
    """The scores of a model in a task; of a programmatic one, whatever it says.

    Args:
        model: ours behind `LanguageModel`, or anything with `generate_text` and `cond_log_prob`.
        shots: solved examples before each question.
        max_examples: so many that are drawn, of each subtask an equal share; -1 for all.
        max_length: letters of an answer.
        seed: by which choices are shuffled and shots are chosen.
    """
    if shots < 0 or max_examples == 0 or max_examples < -1:
        raise OptionError(
            f"shots are 0 or more, and max_examples 1 or more, or -1 for all; given {shots} and {max_examples}."
        )
    if not isinstance(task, JsonTask):
        return task.evaluate_model(model, max_examples, seed)
    if task.subtasks:
        if 0 < max_examples < len(task.subtasks):
            raise OptionError(
                f"{task.name} has {len(task.subtasks)} subtasks, of each of which one example at least is asked for; "
                f"given max_examples={max_examples}."
            )
        share = max_examples // len(task.subtasks) if max_examples > 0 else -1
        options: dict[str, Any] = {"shots": shots, "max_examples": share, "max_length": max_length, "seed": seed}
        parts = tuple(score for part in task.subtasks for score in evaluate(model, part, **options))
        names = dict.fromkeys(name for part in parts for name in part.scores)
        means = {name: float(np.mean([p.scores[name] for p in parts if name in p.scores])) for name in names}
        means[AGGREGATE] = float(np.mean([p.normalized for p in parts]))
        return [ScoreData(task.name, means, task.preferred, task.low, task.high, shots, parts)]
    asked = task.prompts(shots, max_examples, seed)
    found = _measured(model, task, [prompt for _, prompt in asked], [task.examples[i] for i, _ in asked], max_length)
    return [ScoreData(task.name, found, task.preferred, task.low, task.high, shots)]


def _measured(
    model: ModelInterface, task: JsonTask, prompts: list[str], examples: list[Example], max_length: int
) -> dict[str, float]:
    """Every metric of a task that its examples allow for."""
    targets = [list(example.targets) for example in examples]
    several = any(len(right) > 1 for right in targets)
    scored = all(example.scores is not None for example in examples)
    wanted = [m for m in task.metrics if not (METRICS[m].choices and not scored) and not (several and m in SINGLE)]
    kinds = {METRICS[name].of for name in wanted}
    said: dict[str, Any] = {}
    right: dict[str, Any] = dict.fromkeys(("answers", "targets"), targets)
    if "answers" in kinds:
        said["answers"] = model.generate_text(prompts, max_length, task.stop, task.pattern)
    if "targets" in kinds:
        said["targets"] = model.cond_log_prob(prompts, targets, absolute_normalization=True)
    if kinds & {"choices", "absolute"}:
        right["choices"] = right["absolute"] = [example.scores for example in examples]
        choices = [list(example.scores or ()) for example in examples]
        logs = model.cond_log_prob(prompts, choices, absolute_normalization=True)
        said["absolute"] = [dict(zip(row, found, strict=True)) for row, found in zip(choices, logs, strict=True)]
        shared = said["absolute"] if task.absolute else [_normalized(row) for row in said["absolute"]]
        said["choices"] = shared
    return {name: METRICS[name].measure(said[METRICS[name].of], right[METRICS[name].of]) for name in wanted}


def _normalized(log_probs: dict[str, float]) -> dict[str, float]:
    """Log probabilities that add up to 1."""
    total = np.logaddexp.reduce(list(log_probs.values()))
    return {choice: value - total for choice, value in log_probs.items()}
