"""Intents and slots: spans of tags, sentences of a grammar and of files, and the task."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.intents import Utterance, read_utterances, travel
from anyformer.data.pictures import highlighted
from anyformer.tasks import create_task
from anyformer.tasks.intents_slots import IntentsSlots
from anyformer.tasks.spans import kind_scores, span_scores, tag_spans
from anyformer.tasks.task import IGNORE

SPANS = [(0, 2, "a"), (2, 3, "a"), (4, 7, "b")]


@pytest.fixture(scope="module")
def task():
    return IntentsSlots(sentences=60)


# -- spans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [
        "B-a I-a B-a O B-b I-b I-b",
        "I-a I-a B-a O I-b I-b I-b",
        "B-a E-a S-a O B-b I-b E-b",
        "B-a L-a U-a O B-b I-b L-b",
    ],
)
def test_spans_are_the_same_in_every_scheme(tags: str):
    assert tag_spans(tags.split()) == SPANS


def test_spans_of_odd_tags_are_those_of_conlls_evaluation():
    assert tag_spans(["O", "I-a", "I-b", "B-b", "O", "I-b"]) == [(1, 2, "a"), (2, 3, "b"), (3, 4, "b"), (5, 6, "b")]
    assert tag_spans(["S-a", "I-a", "E-a", "E-a"]) == [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]
    assert tag_spans(["B-from.city-name", "I-from.city-name"]) == [(0, 2, "from.city-name")]
    assert tag_spans([]) == [] and tag_spans(["O"]) == []
    for wrong in ("city", "B-", "X-city", "", "BI-a"):
        with pytest.raises(DataError, match='a tag is "O", or one of B, I, E, L, S and U with a kind'):
            tag_spans(["O", wrong])


def test_scores_of_spans_by_hand():
    truth = [["B-a", "I-a", "O", "B-b"], ["B-a", "O"]]
    guess = [["B-a", "I-a", "O", "B-a"], ["B-a", "I-a"]]
    found = span_scores(truth, guess)  # three spans, three guesses, one right
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3})
    kinds = kind_scores(truth, guess)
    assert kinds["a"] == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5, "spans": 2})
    assert kinds["b"] == pytest.approx({"precision": 0, "recall": 0, "f1": 0, "spans": 1})
    assert span_scores([["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    with pytest.raises(DataError, match="given 2 tags and 1 guesses"):
        span_scores([["O", "O"]], [["O"]])


# -- sentences ---------------------------------------------------------------------------------------------


def test_generated_sentences_differ_and_follow_from_the_seed():
    first = travel(300, seed=1)
    assert first == travel(300, seed=1) and first[:50] == travel(50, seed=1)
    words = {u.words for u in first}
    assert len(words) == 300 and not words & {u.words for u in travel(200, 2, words)}
    for u in first:
        assert len(u.words) == len(u.tags) and not any("{" in w or w.isupper() for w in u.words)
        ends = [u.words[a:b] for a, b, kind in tag_spans(u.tags) if kind in ("fromloc.city_name", "toloc.city_name")]
        assert len(ends) in (0, 2) and (not ends or ends[0] != ends[1])
    with pytest.raises(OptionError, match="sentences are 1 to 50000; given 0"):
        travel(0)


def test_one_word_has_several_tags():
    tags: dict[str, set[str]] = {}
    for u in travel(2000):
        for word, tag in zip(u.words, u.tags, strict=True):
            tags.setdefault(word, set()).add(tag)
    assert len(tags["boston"]) == 4 and len(tags["monday"]) >= 3 and len(tags["first"]) >= 3


def write(folder, sentences: list[Utterance]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seq.in").write_text("".join(" ".join(u.words) + "\n" for u in sentences))
    (folder / "seq.out").write_text("".join(" ".join(u.tags) + "\n" for u in sentences))
    (folder / "label").write_text("".join(u.intent + "\n" for u in sentences))


def test_folders_and_lines_read_alike(tmp_path):
    sentences = travel(40)
    parts = {"train": sentences[:20], "valid": sentences[20:30], "test": sentences[30:]}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        write(tmp_path / "atis" / name, parts[split])
    assert read_utterances(tmp_path / "atis") == parts
    lines = [
        {"tokens": list(u.words), "slots": list(u.tags), "intent": u.intent, "split": split}
        for split, some in parts.items() for u in some
    ]  # fmt: skip
    (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_utterances(tmp_path / "some.jsonl") == parts
    (tmp_path / "iob").mkdir()
    for split, some in parts.items():
        rows = [f"BOS {' '.join(u.words)} EOS\tO {' '.join(u.tags)} {u.intent}\n" for u in some]
        (tmp_path / "iob" / f"atis-2.{split}.w-intent.iob").write_text("".join(rows))
    assert read_utterances(tmp_path / "iob") == parts
    (tmp_path / "all.iob").write_text("".join(rows * 5))
    assert read_utterances(tmp_path / "all.iob")["valid"]
    texts = [{"text": " ".join(u.words), "tags": " ".join(u.tags), "label": u.intent} for u in sentences]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
    write(tmp_path / "bare", sentences)
    for path in (tmp_path / "texts.jsonl", tmp_path / "bare"):
        dealt = read_utterances(path)
        assert [len(dealt[split]) for split in ("train", "valid", "test")] == [32, 4, 4]
        assert sorted(u.words for some in dealt.values() for u in some) == sorted(u.words for u in sentences)


def test_wrong_files_are_named(tmp_path):
    sentences = travel(30)
    write(tmp_path / "train", sentences)
    (tmp_path / "train" / "seq.out").write_text("O\n" + "".join(" ".join(u.tags) + "\n" for u in sentences[1:]))
    count = len(sentences[0].words)
    with pytest.raises(ValueError, match=rf"train, line 1: {count} words have 1 tags; each word has one, also where a"):
        read_utterances(tmp_path)
    (tmp_path / "train" / "label").write_text("flight\n" * 29)
    with pytest.raises(DataError, match=r"one line in each file; there are seq.in 30, seq.out 30, label 29 lines"):
        read_utterances(tmp_path)
    (tmp_path / "train" / "label").unlink()
    with pytest.raises(DataError, match=r"the folder .*train has no label: a part has seq.in, seq.out, label"):
        read_utterances(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has neither seq.in, seq.out, label nor folders train, .* nor .iob files"):
        read_utterances(tmp_path / "empty")
    with pytest.raises(DataError, match=r"gone.txt holds no sentences: give a folder"):
        read_utterances(tmp_path / "gone.txt")
    (tmp_path / "bad.iob").write_text("BOS to boston EOS O O B-city flight\n")
    with pytest.raises(DataError, match=r'bad.iob, line 1: a line is "BOS", words, "EOS", a tab, "O", a tag for each'):
        read_utterances(tmp_path / "bad.iob")
    (tmp_path / "bad.iob").write_text("BOS to boston EOS\tO O flight\n")
    with pytest.raises(DataError, match="line 1: 2 words have 1 tags"):
        read_utterances(tmp_path / "bad.iob")
    for line, message in {
        '{"words": "a b", "tags": "O O"}': r"line 1, has no 'intent' \(or label, class\); it has words, tags",
        '{"words": "a b", "tags": "O", "intent": "x"}': "line 1: 2 words have 1 tags",
        '{"words": "", "tags": "", "intent": "x"}': "line 1: a sentence has words, a tag for each, and an intent",
        '{"words": ["a"], "tags": [0], "intent": "x"}': "all of them texts",
        '{"words": "a", "tags": "O", "intent": "x", "split": "exam"}': "a part is one of .* given 'exam'",
        "[1]": 'is no object with "words", "tags" and "intent"',
        "{": "is no JSON object",
    }.items():
        (tmp_path / "bad.jsonl").write_text(line)
        with pytest.raises(DataError, match=message):
            read_utterances(tmp_path / "bad.jsonl")


# -- the task ----------------------------------------------------------------------------------------------


class Knowing(nn.Module):
    """Knows the tags and the intent of every sentence, and can be told to be wrong at each sentence's last word."""

    start: int

    def __init__(self, task: IntentsSlots, wrong: bool = False):
        super().__init__()
        self.weight, self.task, self.start = nn.Parameter(torch.zeros(1)), task, task.start
        self.known = {}
        for split, rows in task.encoded.items():
            for (ids, _), tags, u in zip(rows, task.numbered[split], task.parts[split], strict=True):
                last = (tags[-1] + 1) % task.start if wrong else tags[-1]
                self.known[tuple(ids)] = [*tags[:-1], last], task.intents.index(u.intent)

    def rows(self, ids: Tensor, segments) -> list[tuple[list[int], int]]:
        return [self.known[tuple(row[valid].tolist())] for row, valid in zip(ids, segments.valid, strict=True)]

    def encode(self, ids: Tensor, segments) -> Tensor:
        """The answers themselves."""
        found = self.rows(ids, segments)
        out = torch.zeros(*ids.shape, 2)
        for row, (tags, intent) in zip(out, found, strict=True):
            row[: len(tags), 0], row[:, 1] = torch.tensor(tags), intent
        return out

    def words(self, tokens: Tensor, starts: Tensor, segments):
        return tokens, segments

    def classify(self, tokens: Tensor, segments) -> Tensor:
        return 50 * nn.functional.one_hot(tokens[:, 0, 1].long(), len(self.task.intents)).float()

    def init_state(self, words: Tensor, segments):
        return {"seen": torch.zeros(len(words), dtype=torch.long), "words": words}

    def extend(self, tags: Tensor, state):
        answers = state["words"][torch.arange(len(tags)), state["seen"], 0].long()
        logits = 50 * nn.functional.one_hot(answers, self.task.start + 1).float()[:, None]
        return logits, {**state, "seen": state["seen"] + 1}

    def forward(self, ids: Tensor, tags: Tensor, starts: Tensor, segments) -> Tensor:
        tokens = self.encode(ids, segments)
        slots = 50 * nn.functional.one_hot(tokens[:, : tags.shape[1], 0].long(), self.task.start + 1).float()
        intents = self.classify(tokens, segments)[:, None].expand(-1, tags.shape[1], -1)
        return torch.cat([slots, intents], -1) + self.weight


def test_who_knows_the_answers_scores_all_and_who_errs_less(task):
    found = task.evaluate(Knowing(task), "valid", batch_size=37)
    assert [found[name] for name in ("slot_f1", "intent_accuracy", "sentence_accuracy")] == [1, 1, 1]
    assert found["loss"] < 1e-6 and len(found["guesses"]) == 500
    wrong = task.evaluate(Knowing(task, wrong=True), "valid", batch_size=500)
    assert wrong["sentence_accuracy"] == 0 and 0.3 < wrong["slot_f1"] < 0.9 and wrong["intent_accuracy"] == 1
    last = 500 * 50 / sum(len(u.words) for u in task.parts["valid"])
    assert wrong["loss"] == pytest.approx(last, rel=1e-3)
    assert sum(kind["spans"] for kind in found["kinds"].values()) == sum(
        len(tag_spans(u.tags)) for u in task.parts["valid"]
    )


def test_samples_are_what_models_take(task):
    rows = torch.tensor([4, 0, 9])
    batch, alone = task.sample("train", rows), task.sample("train", rows[:1])
    assert torch.equal(batch["ids"][:1, : alone["ids"].shape[1]], alone["ids"])
    words = torch.tensor([len(task.parts["train"][i].words) for i in rows.tolist()])
    assert torch.equal(batch["starts"].sum(1), words) and torch.equal((batch["targets"] != IGNORE).sum(1), words)
    assert task.count(batch) == int(words.sum())
    for tags, targets, count in zip(batch["tags"], batch["targets"], words.tolist(), strict=True):
        assert tags[0] == task.start and torch.equal(tags[1:count], targets[: count - 1])
    model = create_model("ctran_micro", **task.model_options())
    assert task.loss(model, batch).isfinite()
    with pytest.raises(OptionError, match="a split is one of train, valid, test; given 'dev'"):
        task.sample("dev", rows)


def test_micro_batches_weigh_as_the_whole(task):
    model = create_model("ctran_micro", **task.model_options()).eval()
    whole = task.sample("train", torch.arange(9))
    parts = [task.sample("train", rows) for rows in torch.arange(9).split(4)]
    with torch.no_grad():
        shares = sum(float(task.loss(model, part)) * task.count(part) for part in parts) / task.count(whole)
        assert shares == pytest.approx(float(task.loss(model, whole)), rel=1e-5)


@pytest.mark.parametrize("tokenizer", ["bytes", "wordpiece"])
def test_words_in_pieces_keep_one_tag(tokenizer: str):
    task = IntentsSlots(sentences=40, tokenizer=tokenizer, vocab_size=90)
    batch = task.sample("train", torch.arange(8))
    words = [len(u.words) for u in task.parts["train"][:8]]
    assert batch["starts"].sum(1).tolist() == words and (batch["lengths"] > torch.tensor(words) + 2).all()
    model = create_model("ctran_micro", **task.model_options())
    (said,) = task.predict(model, ["flights from boston to denver"])
    assert len(said["tags"]) == 5 and said["intent"] in task.intents and 0 < said["probability"] <= 1


def test_prediction_names_spans_and_intents(task):
    utterance = task.parts["test"][0]
    model = Knowing(task)
    (said,) = task.predict(model, [" ".join(utterance.words)])
    assert said["intent"] == utterance.intent and said["tags"] == list(utterance.tags)
    spans = [(kind, " ".join(utterance.words[a:b])) for a, b, kind in tag_spans(utterance.tags)]
    assert [(slot["kind"], slot["text"]) for slot in said["slots"]] == spans
    assert all(f"[{kind}: {text}]" in said["tagged"] for kind, text in spans)
    with pytest.raises(DataError, match="a sentence has a word at least; given ' '"):
        task.predict(model, [" "])


def test_pictures_show_slots_in_the_colours_of_their_kinds(task):
    first, second = task.pictures(Knowing(task), "test", 2)
    u = task.parts["test"][0]
    assert first.caption == f"{u.intent}, said: {u.intent}"
    height = first.pixels.shape[0]
    assert height % 2 == 0 and first.pixels.shape[1:] == (720, 3)
    above, below = first.pixels[: height // 2 - 3], first.pixels[height // 2 + 3 :]
    assert np.array_equal(above, below) and not np.array_equal(above, np.full_like(above, 255))
    plain = highlighted([[("to", ""), ("boston", "")]], ["city"])
    assert np.array_equal(plain[..., 0], plain[..., 1])
    colourful = highlighted([[("to", ""), ("boston", "city")]], ["city"])
    assert (colourful != plain).any() and (colourful[..., 0] != colourful[..., 1]).any()
    narrow = highlighted([[("to", ""), ("boston", "city")]], ["city"], width=50)
    assert narrow.shape == (64, 50, 3)
    assert second.pixels.dtype == np.uint8


def test_a_sentence_is_understood_alike_alone_and_in_a_batch(task):
    torch.manual_seed(0)
    model = create_model("ctran_micro", **task.model_options()).eval()
    sentences = [" ".join(u.words) for u in random.Random(0).sample(task.parts["test"], 6)]
    batch = task.collated([task.encode(text.split()) for text in sentences])
    with torch.no_grad():
        together = task.written(model, batch)[1]
    assert together == [said["tags"] for said in task.predict(model, sentences)]


def test_the_task_says_what_it_is(task, tmp_path):
    assert json.loads(json.dumps(task.facts()))["task"] == "intents_slots"
    baseline = task.baseline()
    assert 0.3 < baseline.value < 0.8 and baseline.what == "the most frequent tag of each word"
    example = task.examples("valid", 2)[0]
    assert example["truth"].startswith(task.parts["valid"][0].intent) and "[" in example["truth"]
    assert IntentsSlots(sentences=60).facts() == task.facts() != IntentsSlots(sentences=60, seed=1).facts()
    write(tmp_path / "mine", travel(40))
    made = create_task(f"intents_slots:{tmp_path / 'mine'}")
    assert made.size("train") == 32 and set(made.intents) <= {u.intent for u in travel(40)}
    with pytest.raises(OptionError, match="sentences to train on are 1 or more; given 0"):
        IntentsSlots(sentences=0)
