"""BIG-bench's JSON tasks: examples with targets or scored choices, and how they are put to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyformer.core.errors import DataError, suggest
from anyformer.lab.bench.bigbench.metrics import BESIDE, METRICS

GRADE, AGGREGATE = "multiple_choice_grade", "normalized_aggregate_score"
"""Preferred by tasks whose parts all prefer it, and by those with other parts."""
SENTENCE = r"[^\.\?\!\;\n]+"
"""What is taken of an answer where a task names neither a regular expression nor a stop string."""


@dataclass(frozen=True)
class Example:
    """An input; the texts that answer it; and for multiple choice the score of each choice."""

    input: str
    targets: tuple[str, ...]
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True)
class JsonTask:
    """A task as `task.json` states it; fields that are missing there have BIG-bench's defaults.

    Attributes:
        name, description, keywords: of the task.
        metrics: those that it asks for; preferred: the one that counts.
        low, high: what is poor and what is excellent in the preferred metric.
        examples: without repetitions.
        subtasks: tasks that it consists of, instead of examples of its own.
        prefix: before everything. input_prefix, output_prefix, choice_prefix, separator: between the parts of a prompt.
        append_choices: whether choices stand in the prompt, in a shuffled order.
        stop, pattern: after which string an answer ends, and the regular expression of what counts of it.
        absolute: whether choices are compared by what the model gives, not by what adds up to 1.
    """

    name: str
    description: str
    keywords: tuple[str, ...]
    metrics: tuple[str, ...]
    preferred: str
    low: float
    high: float
    examples: tuple[Example, ...]
    subtasks: tuple[JsonTask, ...] = ()
    prefix: str = ""
    input_prefix: str = "\nQ: "
    output_prefix: str = "\nA: "
    choice_prefix: str = "\n  choice: "
    separator: str = "\n"
    append_choices: bool = True
    stop: str | None = None
    pattern: str | None = SENTENCE
    absolute: bool = False

    def question(self, example: Example, seed: int = 42) -> str:
        """What a model is shown of an example, up to where it answers."""
        text = f"{self.input_prefix}{example.input}"
        if example.scores is not None and self.append_choices:
            choices = np.random.RandomState(seed).permutation(sorted(example.scores))
            text += self.choice_prefix + self.choice_prefix.join(choices)
        return text + self.output_prefix

    def prompt(self, place: int, seed: int = 42) -> str:
        """The question of example number `place`."""
        return self.prefix + self.question(self.examples[place], seed)

    def prompts(self, shots: int = 0, max_examples: int = -1, seed: int = 42) -> list[tuple[int, str]]:
        """The examples that are asked for, by their numbers, each with its question behind `shots` solved others.

        With shots, or with fewer examples than there are, they come in a random order. One generator draws them all,
        as BIG-bench's does, so that prompts are its prompts.
        """
        many = len(self.examples)
        count = many if max_examples < 0 else min(max_examples, many)
        dice = np.random.RandomState(seed)
        if not shots:
            places = range(many) if count == many else dice.choice(many, count, replace=False).tolist()
            return [(place, self.prompt(place, seed)) for place in places]
        if shots >= many:
            raise DataError(f"{self.name} has {many} examples, too few for {shots} shots.")
        found = []
        for place in dice.choice(many, count, replace=False).tolist():
            others = [example for i, example in enumerate(self.examples) if i != place]
            shown = [others[i] for i in dice.choice(many - 1, shots, replace=False)]
            solved = [self.question(e, seed) + e.targets[dice.choice(len(e.targets))] for e in shown]
            question = self.question(self.examples[place], seed)
            found.append((place, self.prefix + self.separator.join([*solved, question])))
        return found


FIELDS = {
    "prefix": "task_prefix", "input_prefix": "example_input_prefix", "output_prefix": "example_output_prefix",
    "choice_prefix": "choice_prefix", "separator": "few_shot_example_separator",
    "append_choices": "append_choices_to_input", "stop": "stop_string", "pattern": "output_regex",
    "absolute": "absolute_normalization",
}  # fmt: skip


def read_task(path: str | Path) -> JsonTask:
    """The task of a `task.json`, or of a folder that holds one; its subtasks may lie in folders beside the file.

    Raises `DataError` naming the file, the task and the example that is none.
    """
    path = Path(path)
    path = path / "task.json" if path.is_dir() else path
    held = _read(path)
    beside = sorted(path.parent.glob("*/task.json"))
    if "examples" not in held and "subtasks" not in held and beside:
        held = {**held, "subtasks": [_read(part) for part in beside]}
    return make_task(held)


def _read(path: Path) -> dict[str, Any]:
    """What a JSON file holds."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the task {path} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"the task {path} is no JSON ({error}).") from error
    if not isinstance(held, dict):
        raise DataError(f"the task {path} is an object with name, metrics and examples; given a {type(held).__name__}.")
    return held


def make_task(held: Mapping[str, Any]) -> JsonTask:
    """A task from what its JSON holds. Raises `DataError` naming the task and the example."""
    name = str(held.get("name", "a task without a name"))
    if "subtasks" in held:
        inherited = {k: held[k] for k in ("metrics", "preferred_score") if k in held}
        parts = tuple(make_task({**inherited, **part}) for part in held["subtasks"])
        if not parts:
            raise DataError(f"the task {name!r} has an empty list of subtasks.")
        grades = all(part.preferred == GRADE for part in parts)
        low, high = (float(np.mean([part.low for part in parts])), 1.0) if grades else (0.0, 100.0)
        return JsonTask(
            name, str(held.get("description", "")), tuple(held.get("keywords", ())),
            tuple(dict.fromkeys(metric for part in parts for metric in part.metrics)),
            GRADE if grades else AGGREGATE, *_limits(name, held, (), low, high), examples=(), subtasks=parts,
        )  # fmt: skip
    metrics = tuple(held.get("metrics", ()))
    known = [metric for metric in metrics if metric in METRICS]
    preferred = held.get("preferred_score") or (known or [""])[0]
    if preferred not in METRICS:
        raise DataError(
            f"the task {name!r} is scored by {preferred or ', '.join(metrics) or 'nothing'}, which is not here; "
            f"{suggest(preferred, METRICS)}"
        )
    examples = _unique(held.get("examples", ()))
    if not examples:
        raise DataError(f"the task {name!r} has no examples.")
    read = tuple(_example(name, i, example) for i, example in enumerate(examples))
    if METRICS[preferred].choices and any(example.scores is None for example in read):
        place = next(i for i, example in enumerate(read) if example.scores is None)
        raise DataError(f"the task {name!r} is scored by {preferred}, but example {place} has no target_scores.")
    options = {ours: held[theirs] for ours, theirs in FIELDS.items() if theirs in held}
    if options.get("stop") and not options.get("pattern"):
        options["pattern"] = None
    elif not options.get("pattern"):
        options["pattern"] = SENTENCE
    metric = METRICS[preferred]
    guesses = [np.mean(list(example.scores.values())) for example in read if example.scores]
    low = float(np.mean(guesses)) if preferred == GRADE else metric.low
    wanted = (preferred, *known)
    return JsonTask(
        name, str(held.get("description", "")), tuple(held.get("keywords", ())),
        tuple(dict.fromkeys((*wanted, *(beside for asked in wanted for beside in BESIDE.get(asked, ()))))),
        preferred, *_limits(name, held, read, low, metric.high), examples=read, **options,
    )  # fmt: skip


def _unique(examples: Sequence[Any]) -> list[Any]:
    return list({json.dumps(example): example for example in examples}.values())


def _example(name: str, place: int, held: Any) -> Example:
    where = f"the task {name!r}, example {place}"
    if not isinstance(held, dict) or not isinstance(held.get("input"), str):
        raise DataError(f'{where}: an example is an object with "input" and "target" or "target_scores".')
    target = held.get("target")
    targets = () if target is None else tuple([target] if isinstance(target, str) else target)
    if "target_scores" not in held:
        if not targets:
            raise DataError(f"{where}: there is neither target nor target_scores.")
        return Example(held["input"], targets)
    scores = held["target_scores"]
    if not isinstance(scores, dict) or not scores or not all(isinstance(s, int | float) for s in scores.values()):
        raise DataError(f"{where}: target_scores is an object of choices and numbers; given {str(scores)[:60]}.")
    absent = [text for text in targets if text not in scores]
    if absent:
        raise DataError(f"{where}: the best answer {absent[0]!r} is absent from the choices {', '.join(scores)}.")
    if not targets and (max(scores.values()) <= min(scores.values()) if len(scores) > 1 else not any(scores.values())):
        raise DataError(f"{where}: no choice has a score above the others', so none is best.")
    right = targets or (max(scores, key=lambda choice: scores[choice]),)
    return Example(held["input"], right, {choice: float(score) for choice, score in scores.items()})


def _limits(
    name: str, held: Mapping[str, Any], examples: Sequence[Example], low: float, high: float
) -> tuple[float, float]:
    """The low and the high score, which count whatever a task states, as in BIG-bench; what it states is checked."""
    stated = float(held.get("low_score", low)), float(held.get("high_score", high))
    for least, most in (stated, (low, high)):
        if least >= most:
            example = f"; its first example is {examples[0].input[:40]!r}" if examples else ""
            raise DataError(
                f"the task {name!r} has a low score of {least:g} and a high score of {most:g}: low is below "
                f"high{example}."
            )
    return low, high
