"""Extractive question answering: windows, spans, silence, SQuAD's files and scores."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.squad import biographies, read_squad
from anyformer.data.tokenizers import make_tokenizer
from anyformer.tasks import create_task
from anyformer.tasks.answers import exact_match, f1, normalized
from anyformer.tasks.question_answering import QuestionAnswering, best_spans
from descent import descend

# -- scores --------------------------------------------------------------------------------------------------


def test_scores_are_torchmetrics():
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    pairs = [
        ("The Norman conquest", ["Norman conquest"]),
        ("in 1066, at Hastings", ["1066", "Hastings in 1066"]),
        ("a cat", ["the dog"]),
        ("in in Paris", ["in Paris"]),
        ("U.S.", ["us", "America"]),
    ]
    for answer, truths in pairs:
        theirs = squad(
            [{"prediction_text": answer, "id": "0"}],
            [{"answers": {"text": truths, "answer_start": [0] * len(truths)}, "id": "0"}],
        )
        assert 100 * f1(answer, truths) == pytest.approx(float(theirs["f1"]), abs=1e-4)
        assert 100 * exact_match(answer, truths) == float(theirs["exact_match"])


def test_silence_is_right_or_wrong():
    assert f1("", []) == exact_match("", []) == 1
    assert f1("a thing", []) == exact_match("a thing", []) == 0
    assert f1("", ["a thing"]) == exact_match("", ["a thing"]) == 0
    assert normalized("The  (old) man's-An  ") == "old mansan"


# -- spans ---------------------------------------------------------------------------------------------------


def test_best_spans_are_those_of_a_search():
    torch.manual_seed(0)
    logits = torch.randn(20, 2, 13)
    logits[:, :, 9:] = -torch.inf
    logits[:, :, 1:4] = -torch.inf
    nothing, scores, firsts, lasts = best_spans(logits, longest=3)
    for row in range(20):
        first, last = logits[row]
        found = {(i, j): float(first[i] + last[j]) for i in range(4, 9) for j in range(i, min(9, i + 3))}
        best = max(found, key=lambda place: found[place])
        assert (int(firsts[row]), int(lasts[row])) == best
        assert float(scores[row]) == pytest.approx(found[best])
    torch.testing.assert_close(nothing, logits[:, 0, 0] + logits[:, 1, 0])


class Pointer(nn.Module):
    """Knows the place of each answer in the ids of its windows."""

    def __init__(self, places: dict[tuple[int, ...], tuple[int, int]]):
        super().__init__()
        self.places = places

    def forward(self, ids: Tensor, segments: Any, types: Tensor) -> Tensor:
        out = torch.zeros(*ids.shape, 2)
        for row, lengths in enumerate(segments.valid.sum(1).tolist()):
            first, last = self.places[tuple(ids[row, :lengths].tolist())]
            out[row, first, 0] = out[row, last, 1] = 9
        return out


def pointer(task: QuestionAnswering) -> Pointer:
    return Pointer({tuple(w[0]): places for rows in task.windows.values() for _, w, places in rows})


@pytest.mark.parametrize(
    "options", [{}, {"length": 34, "stride": 6}, {"tokenizer": "bytes", "length": 140, "question_length": 40}]
)
def test_who_knows_the_places_answers_all(options: dict[str, Any]):
    task = QuestionAnswering(questions=20, **{"question_length": 16, "answer_length": 12, **options})
    found = task.evaluate(pointer(task), "valid")
    assert found["f1"] == found["exact_match"] == found["f1_answered"] == found["f1_silent"] == 1
    assert found["questions"] == 500 and 0 < found["loss"] < 0.1


def test_long_texts_are_read_in_windows_that_overlap():
    task = QuestionAnswering(questions=20, length=24, stride=6)
    one = task.parts["valid"][0]
    text = task.tokenizer.encode(one.context)
    windows = task.cut(one)
    assert len(windows) > 2 and all(len(ids) <= 24 for ids, *_ in windows)
    assert [start for _, start, _, _ in windows] == [6 * i for i in range(len(windows))]
    assert windows[-1][1] + windows[-1][3] == len(text)
    covered = set()
    for ids, start, front, many in windows:
        assert ids[front:] == text[start : start + many] and ids[0] == ids[front - 1] == task.tokenizer.marks["end"]
        covered |= set(range(start, start + many))
    assert covered == set(range(len(text)))


def test_answers_stand_where_it_says():
    task = QuestionAnswering(questions=20)
    part = task.parts["valid"][:50]
    for one, found in zip(part, task.answer(pointer(task), part), strict=True):
        if one.answers:
            assert one.context[found["start"] : found["end"]] == found["answer"] == one.answers[0][0]
        else:
            assert found["answer"] == "" and found["start"] is None and found["silence"] > found["score"]
    task.threshold = 1e9
    assert all(found["answer"] for found in task.answer(pointer(task), part))


@pytest.mark.parametrize("name", ["bytes", "characters", "words", "bpe", "wordpiece", "unigram"])
def test_tokens_say_which_characters_they_stand_for(name: str):
    text = "Zürich's lake, 12 km: naïve café -- and the end."
    tokenizer = make_tokenizer(name, text, 300)
    ids, places = tokenizer.encode(text), tokenizer.places(text)
    assert len(ids) == len(places) > 0
    assert all(0 <= a < b <= len(text) for a, b in places)
    starts = [a for a, _ in places]
    assert starts == sorted(starts)
    shown = {i for a, b in places for i in range(a, b)}
    assert {i for i, c in enumerate(text) if c.isalnum()} <= shown


def test_a_model_learns_to_point():
    torch.manual_seed(0)
    task = QuestionAnswering(questions=40)
    model = create_model("bert_micro", **task.model_options())
    batch = task.sample("train", torch.arange(16))
    losses = descend(model, lambda: task.loss(model, batch), steps=30)
    assert losses[-1] < 0.3 * losses[0]
    (found,) = task.predict(model, [(task.parts["train"][0].question, task.parts["train"][0].context)])
    assert set(found) == {"input", "answer", "start", "end", "score", "silence"}
    context = "Ada was born in Oslo in 1920."
    assert task.predict(model, [f"Where was Ada born?\t{context}"])[0]["answer"] in context


def test_the_baseline_is_silence_where_a_fifth_is_silent():
    task = QuestionAnswering(questions=20)
    baseline = task.baseline("valid")
    share = sum(not one.answers for one in task.parts["valid"]) / 500
    assert baseline.what == "no answer" and baseline.value == pytest.approx(share) and 0.15 < share < 0.25


# -- data ----------------------------------------------------------------------------------------------------


def test_biographies_answer_what_they_say_and_no_more():
    found = biographies(200, seed=4) + biographies(100, seed=4, people=3)
    assert found[:200] == biographies(200, seed=4) and found[:200] != biographies(200, seed=5)
    for one in found:
        for text, start in one.answers:
            assert one.context[start : start + len(text)] == text
        name = next(word for word in one.question.rstrip("?").split() if word in one.context and word[0].isupper())
        told = [s for s in one.context.split(". ") if s.startswith(name)]
        verbs = {"born": "born", "study": "studied", "work": "worked", "move": "moved", "die": "died"}
        verb = verbs[next(v for v in verbs if v in one.question.rstrip("?").split())]
        assert any(verb in sentence.split() for sentence in told) == bool(one.answers)


def squad(*texts: str, silent: bool = False) -> dict[str, Any]:
    paragraphs = []
    for i, text in enumerate(texts):
        answer = {"text": text.split()[1], "answer_start": text.index(text.split()[1])}
        entries: list[dict[str, Any]] = [{"id": f"a{i}", "question": "What comes second?", "answers": [answer]}]
        if silent:
            entries.append({"id": f"b{i}", "question": "What is not?", "answers": [], "is_impossible": True})
        paragraphs.append({"context": text, "qas": entries})
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}


def test_squad_files_are_read_and_no_text_stands_in_two_parts(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(squad(*(f"one word{i} three four" for i in range(20)), silent=True)))
    parts = read_squad(path)
    assert {split: len(part) for split, part in parts.items()} == {"train": 32, "valid": 4, "test": 4}
    texts = [{one.context for one in part} for part in parts.values()]
    assert not texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2]
    task = create_task(f"question_answering:{path}")
    assert task.silent and task.evaluate(pointer(task), "test")["f1"] == 1
    (tmp_path / "train-v1.1.json").write_text(path.read_text())
    (tmp_path / "dev-v1.1.json").write_text(json.dumps(squad(*(f"five six{i} seven" for i in range(6)))))
    task = create_task("question_answering", path=tmp_path)
    assert [task.size(s) for s in ("train", "valid", "test")] == [36, 6, 4]


def test_questions_with_an_answer_each_never_meet_silence(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(squad(*(f"one word{i} three four" for i in range(20)))))
    task = create_task(f"question_answering:{path}", answer_length=2)
    model = create_model("bert_micro", **task.model_options()).eval()
    assert not task.silent and all(found["answer"] for found in task.answer(model, task.parts["train"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("{}", "is not of SQuAD's form.*'data'"),
        ('{"data": []}', "holds no questions"),
        (
            json.dumps(squad("one two three")).replace('"answer_start": 4', '"answer_start": 5'),
            "does not stand at char",
        ),
        (json.dumps(squad("one two three")), "leaves no samples for the"),
    ],
)
def test_wrong_files_are_named(tmp_path, text: str, message: str):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"wrong\.json.*{message}"):
        create_task(f"question_answering:{path}")


def test_wrong_folders_and_inputs_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no train\*\.json of SQuAD's form"):
        create_task(f"question_answering:{tmp_path}")
    with pytest.raises(DataError, match=r"gone\.json cannot be read"):
        create_task("question_answering:gone.json")
    with pytest.raises(OptionError, match=r"at least `stride` tokens.*take length=50 or more"):
        QuestionAnswering(length=20)
    task = QuestionAnswering(questions=5)
    model = create_model("bert_micro", **task.model_options())
    with pytest.raises(DataError, match=r"a question comes with its text.*given 'only"):
        task.predict(model, ["only a question"])
    with pytest.raises(DataError, match="leaves no token"):
        task.predict(model, [("?", "a text")])
    with pytest.raises(OptionError, match=r"takes two logits a token.*the model gives \(4, 2\)"):
        plain = create_model("bert_micro", vocab_size=task.tokenizer.vocab_size)
        task.loss(plain, task.sample("train", torch.arange(4)))
    with pytest.raises(OptionError, match="a text tells of 1 to 20 people"):
        biographies(5, people=30)
