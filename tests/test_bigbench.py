"""BIG-bench: tasks in its format, what it asks of models, its metrics worked out by hand, and curves of scores."""

from __future__ import annotations

import json
import math
import zlib

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.tokenizers import Bytes, Marked
from anyformer.lab.bench.bigbench import (
    LITE,
    LanguageModel,
    ScoreData,
    aggregate,
    breakthroughness,
    evaluate,
    linearity,
    normalized,
    read_task,
)
from anyformer.lab.bench.bigbench.json_task import make_task
from anyformer.lab.bench.bigbench.metrics import (
    best,
    brier_score,
    case_insensitive_str_match,
    cut_answer,
    expected_calibration_error,
    log_likelihood,
    log_likelihood_per_word,
    macro_f1,
    multiple_choice_grade,
    numeric_match,
    sequence_f1,
    weighted_log_probabilities,
    weighted_probabilities,
)
from golden import FOLDER

CHOICE = {
    "canary": "of the benchmark",
    "name": "capitals",
    "description": "Name capitals",
    "keywords": ["knowledge"],
    "metrics": ["multiple_choice_grade", "bleu", "exact_str_match"],
    "preferred_score": "multiple_choice_grade",
    "task_prefix": "Answer.",
    "examples": [
        {"input": "France", "target_scores": {"Paris": 1, "Rome": 0}},
        {"input": "Italy", "target_scores": {"Paris": 0, "Rome": 1, "Oslo": 0}},
        {"input": "France", "target_scores": {"Paris": 1, "Rome": 0}},
    ],
}
GRADED = ("multiple_choice_grade", "calibration_multiple_choice_brier_score", "expected_calibration_error")
"""What is measured where the grade is asked for."""


class Given:
    """A model with these answers and these log probabilities, by what the prompt contains."""

    def __init__(self, answers: dict[str, str], logs: dict[str, dict[str, float]]):
        self.answers, self.logs, self.prompts = answers, logs, []

    def generate_text(self, inputs, max_length=128, stop_string=None, output_regex=None):
        self.prompts += inputs
        found = [next(a for key, a in self.answers.items() if key in text.rsplit("Q: ", 1)[1]) for text in inputs]
        return [cut_answer(text, max_length, stop_string, output_regex) for text in found]

    def cond_log_prob(self, inputs, targets, absolute_normalization=False):
        self.prompts += inputs
        found = [next(v for key, v in self.logs.items() if key in text.rsplit("Q: ", 1)[1]) for text in inputs]
        return [[row[t] for t in given] for row, given in zip(found, targets, strict=True)]


def test_a_task_of_the_benchmark_loads_unchanged_and_is_scored(tmp_path):
    (tmp_path / "task.json").write_text(json.dumps(CHOICE))
    task = read_task(tmp_path)
    assert len(task.examples) == 2  # repetitions count once
    assert task.metrics == ("multiple_choice_grade", "exact_str_match", *GRADED[1:])
    assert (task.low, task.high) == (pytest.approx((1 / 2 + 1 / 3) / 2), 1.0)
    prompt = task.prompt(0)
    assert prompt.startswith("Answer.\nQ: France\n  choice: ") and prompt.endswith("\nA: ")
    assert {"\n  choice: Paris", "\n  choice: Rome"} <= {
        p for p in ("\n  choice: Paris", "\n  choice: Rome") if p in prompt
    }
    logs = {"France": {"Paris": -1.0, "Rome": -2.0}, "Italy": {"Paris": -0.1, "Rome": -0.5, "Oslo": -9.0}}
    (score,) = evaluate(Given({"France": "Paris. Yes", "Italy": "Rome"}, logs), task)
    assert set(score.scores) == {"exact_str_match", *GRADED}
    assert (score.scores["multiple_choice_grade"], score.scores["exact_str_match"]) == (0.5, 1.0)
    assert score.normalized == pytest.approx(100 * (0.5 - 5 / 12) / (1 - 5 / 12))


def test_few_shots_stand_before_the_question_with_their_answers():
    task = make_task({**CHOICE, "append_choices_to_input": False})
    asked = dict(task.prompts(shots=1))
    assert asked[0] == "Answer.\nQ: Italy\nA: Rome\n\nQ: France\nA: " and set(asked) == {0, 1}
    assert len(task.prompts(shots=1, max_examples=1)) == 1 and len(task.prompts(max_examples=5)) == 2
    with pytest.raises(DataError, match="capitals has 2 examples, too few for 2 shots"):
        task.prompts(shots=2)


def balanced(questions: int, choices: int = 4) -> dict:
    names = [f"choice {k}" for k in range(choices)]
    examples = [
        {"input": f"question {i}", "target_scores": {n: int(k == i % choices) for k, n in enumerate(names)}}
        for i in range(questions)
    ]
    return {"name": "balanced", "metrics": ["multiple_choice_grade"], "examples": examples}


class Weighing:
    """A model that weighs the choices of a question by a function of the question and of the choice."""

    def __init__(self, weigh):
        self.weigh = weigh

    def cond_log_prob(self, inputs, targets, absolute_normalization=False):
        return [[self.weigh(text, t) for t in given] for text, given in zip(inputs, targets, strict=True)]


def test_an_oracle_reaches_100_and_a_guess_0():
    task = make_task(balanced(2000))
    answers = {task.prompt(i): example.targets[0] for i, example in enumerate(task.examples)}
    dice = np.random.RandomState(0)
    (oracle,) = evaluate(Weighing(lambda text, t: 0.0 if answers[text] == t else -5.0), task)
    (uniform,) = evaluate(Weighing(lambda text, t: dice.rand()), task)
    (constant,) = evaluate(Weighing(lambda text, t: -1.0), task)
    assert oracle.normalized == 100.0
    assert abs(uniform.normalized) <= 5 and abs(constant.normalized) <= 5


def test_metrics_worked_out_by_hand():
    scores = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}]
    logs = [{"a": math.log(0.8), "b": math.log(0.2)}, {"a": math.log(0.6), "b": math.log(0.4)}]
    assert multiple_choice_grade(logs, scores) == 0.5
    assert brier_score(logs, scores) == pytest.approx((2 * 0.2**2 + 2 * 0.6**2) / 4)
    assert expected_calibration_error(logs, scores) == pytest.approx((abs(1 - 0.8) + abs(0 - 0.6)) / 2)
    assert multiple_choice_grade([{"a": -1.0, "b": -2.0}], [{"a": 0.25, "b": 1.0}]) == 0.25


def test_other_metrics_worked_out_by_hand():
    assert case_insensitive_str_match([" Paris", "rome."], [["paris "], ["Rome"]]) == 0.5
    assert sequence_f1(["a b", "a x c d"], [["a c d"], ["a b c"]]) == pytest.approx(100 * (1 / 3 + 2 / 3) / 2)
    assert numeric_match(["10.9", "11.1", "0.05", "ten"], [["10"], ["10"], ["0"], ["10"]]) == 0.5
    assert log_likelihood([[math.log(0.1), math.log(0.3)], [math.log(0.5)]], [["a", "b"], ["c"]]) == pytest.approx(
        (math.log(0.4) + math.log(0.5)) / 2
    )
    assert log_likelihood_per_word([[-6.0], [-1.0]], [["a b c"], ["d"]]) == -1.5
    logs, scores = [{"a": math.log(0.2), "b": math.log(0.6)}], [{"a": 0.5, "b": 1.0}]
    assert weighted_probabilities(logs, scores) == pytest.approx(0.7)
    assert weighted_log_probabilities(logs, scores) == pytest.approx(0.5 * math.log(0.2) + math.log(0.6))
    right, said = ["a", "b", "a", "c"], ["a", "a", "b", "c"]
    rows = [[{word: float(word == own) for word in "abc"} for own in words] for words in (said, right)]
    assert macro_f1(*rows) == pytest.approx(f1_score(right, said, average="macro"))
    with pytest.raises(DataError, match="one choice of score 1"):
        macro_f1(logs, scores)


def test_equal_choices_favour_no_place():
    chosen = [best([float(i), float(i), float(i)]) for i in range(300)]
    assert all(60 < chosen.count(k) < 140 for k in range(3))
    assert best([1.0, 3.0, 2.0]) == 1


@pytest.mark.parametrize(
    ("text", "stop", "pattern", "kept"),
    [
        ("Paris. And more", None, r"[^\.\?\!\;\n]+", "Paris"),
        ("7 apples; 8", ";", None, "7 apples;"),
        ("it is 42", None, r"\d+", "42"),
        ("none", None, r"\d+", ""),
    ],
)
def test_what_counts_of_an_answer(text, stop, pattern, kept):
    assert cut_answer(text, 128, stop, pattern) == kept


def test_a_straight_line_of_n_points_has_n_minus_1():
    for n in (2, 5, 9):
        line = np.linspace(3, 11, n)
        assert linearity(line) == pytest.approx(n - 1) and breakthroughness(line) == pytest.approx(n - 1)
        assert linearity(-line) == pytest.approx(1 - n)
    assert linearity([1.0, 1.0, 1.0]) == 0.0
    jump = [0.0, 0.01, 0.02, 0.03, 1.0]
    assert breakthroughness(jump) > 50 and linearity(jump) < 3
    with pytest.raises(DataError, match="a curve has the scores of two models or more"):
        linearity([1.0])


def test_the_aggregate_is_the_mean_of_normalized_scores():
    scores = [ScoreData("x", {"m": 0.75}, "m", 0.5, 1.0), ScoreData("y", {"m": 0.1}, "m", 0.2, 1.2)]
    assert aggregate(scores) == pytest.approx((50 - 10) / 2)
    with pytest.raises(DataError, match="a low score lies below the high score; given 1 and 1"):
        normalized(0.5, 1, 1)


def test_subtasks_count_alike():
    held = {"name": "both", "metrics": ["exact_str_match"], "subtasks": [
        {"name": "one", "examples": [{"input": "a", "target": "x"}, {"input": "b", "target": "x"}]},
        {"name": "two", "examples": [{"input": "c", "target": ["y", "z"]}]},
    ]}  # fmt: skip
    (score,) = evaluate(Given({"a": "x", "b": "w", "c": "z"}, {}), make_task(held))
    assert [part.scores["exact_str_match"] for part in score.parts] == [0.5, 1.0]
    assert score.scores == {"exact_str_match": 0.75, "normalized_aggregate_score": 75.0}
    assert score.normalized == 75.0
    with pytest.raises(OptionError, match="both has 2 subtasks, of each of which one example at least"):
        evaluate(Given({}, {}), make_task(held), max_examples=1)


def test_a_programmatic_task_asks_what_it_wants():
    class Twice:
        def evaluate_model(self, model, max_examples=-1, random_seed=42):
            first = model.generate_text(["Q: a"])[0]
            return [ScoreData("twice", {"same": float(model.generate_text(["Q: a"])[0] == first)}, "same", 0, 1)]

    (score,) = evaluate(Given({"a": "x"}, {}), Twice())
    assert score.normalized == 100.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": [{"input": "a"}]}, "'capitals', example 0: there is neither target nor target_scores"),
        (
            {"examples": [{"input": "a", "target": "c", "target_scores": {"x": 1, "y": 0}}]},
            "'capitals', example 0: the best answer 'c' is absent from the choices x, y",
        ),
        (
            {"examples": [CHOICE["examples"][0], {"input": "a", "target_scores": {"x": 0, "y": 0}}]},
            "'capitals', example 1: no choice has a score above the others'",
        ),
        (
            {"low_score": 1.0},
            "'capitals' has a low score of 1 and a high score of 1: low is below high; its first example",
        ),
        ({"examples": []}, "'capitals' has no examples"),
        ({"preferred_score": "bleu"}, "'capitals' is scored by bleu, which is not here"),
        ({"examples": [{"input": "a", "target": "x"}]}, "example 0 has no target_scores"),
    ],
)
def test_a_task_that_cannot_be_scored_is_named(change, message):
    with pytest.raises(DataError, match=message):
        make_task({**CHOICE, **change})


@pytest.mark.parametrize("name", ["gpt2_micro", "t5_micro"])
def test_our_models_behind_the_interface(name):
    torch.manual_seed(0)
    model = create_model(name, vocab_size=259, max_length=256).eval()
    asked = LanguageModel(model, Marked(Bytes(), ["pad", "start", "end"]))
    logs = asked.cond_log_prob("France", ["Paris", "Rome"])
    assert sum(math.exp(x) for x in logs) == pytest.approx(1)
    absolute = asked.cond_log_prob(["France", "x"], [["Paris", "Rome"], ["y"]], absolute_normalization=True)
    assert [len(row) for row in absolute] == [2, 1] and absolute[0][0] < -5
    assert absolute[0][0] - absolute[0][1] == pytest.approx(logs[0] - logs[1], abs=1e-4)
    assert isinstance(asked.generate_text("France", max_length=5), str)
    (score,) = evaluate(asked, make_task(CHOICE), max_length=4)
    assert set(score.scores) == {"exact_str_match", *GRADED}


def test_lite_is_a_list_of_24_tasks():
    assert len(set(LITE)) == 24


class Ruled:
    """The model of the golden: what it says follows from a checksum of what it is asked."""

    def __init__(self, words: list[str]):
        self.words, self.seen = words, []

    def generate_text(self, inputs, max_length=128, stop_string=None, output_regex=None):
        self.seen += inputs
        found = [self.words[zlib.crc32(text.encode()) % len(self.words)] for text in inputs]
        return [cut_answer(text, max_length, stop_string, output_regex) for text in found]

    def cond_log_prob(self, inputs, targets, absolute_normalization=False):
        self.seen += inputs
        return [
            [-(zlib.crc32(f"{text}|{target}".encode()) % 64) / 8 for target in row]
            for text, row in zip(inputs, targets, strict=True)
        ]


def test_prompts_and_scores_are_the_reference_s():
    golden = json.loads((FOLDER / "bigbench--json_tasks--official.json").read_text())
    tasks = {held["name"]: make_task(held) for held in golden["inputs"]["tasks"]}
    for expected in golden["outputs"]:
        model = Ruled(golden["inputs"]["words"])
        where = f"{expected['task']}, {expected['shots']} shots, {expected['max_examples']} examples"
        (score,) = evaluate(
            model, tasks[expected["task"]], shots=expected["shots"], max_examples=expected["max_examples"]
        )
        assert [zlib.crc32(text.encode()) for text in sorted(set(model.seen))] == expected["prompts"], where
        assert score.preferred == expected["preferred"], where
        limits = pytest.approx((expected["low"], expected["high"]), rel=golden["tolerance"])
        assert (score.low, score.high) == limits, where
        scores = dict(expected["scores"])
        if not score.parts:  # of one task it is the normalized preferred score
            assert score.normalized == pytest.approx(scores.pop("normalized_aggregate_score"), rel=golden["tolerance"])
        assert dict(score.scores) == pytest.approx(scores, rel=golden["tolerance"]), where


def test_subtasks_may_lie_in_folders_beside_the_task(tmp_path):
    parts = [{**CHOICE, "name": name} for name in ("first", "second")]
    (tmp_path / "task.json").write_text(json.dumps({"name": "both", "keywords": ["k"]}))
    for part in parts:
        (tmp_path / part["name"]).mkdir()
        (tmp_path / part["name"] / "task.json").write_text(json.dumps(part))
    assert read_task(tmp_path) == make_task({"name": "both", "keywords": ["k"], "subtasks": parts})
