"""Tags of words: first pieces, spans of four schemes, files of columns, sentences that are too long, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.data.conll import Sentence, read_conll
from anyformer.data.named_entities import reports
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.spans import bracketed, to_bio
from anyformer.tasks.tagging import Tagging
from anyformer.tasks.task import IGNORE

FORMS = {  # the same two neighbouring places and one person in each form
    "BIO": ["B-loc", "I-loc", "B-loc", "O", "B-per"],
    "IOB1": ["I-loc", "I-loc", "B-loc", "O", "I-per"],
    "BIOES": ["B-loc", "E-loc", "S-loc", "O", "S-per"],
    "BILOU": ["B-loc", "L-loc", "U-loc", "O", "U-per"],
}


def columns(sentences: list[tuple[str, str]], between: str = " ") -> str:
    """Lines of a file, from words and tags with spaces between."""
    blocks = []
    for words, tags in sentences:
        rows = zip(words.split(), tags.split(), strict=True)
        blocks.append("\n".join(between.join((word, "NN", tag)) for word, tag in rows))
    return "\n\n".join(blocks) + "\n"


@pytest.fixture
def places(tmp_path: Path) -> Path:
    names = ("Oslo", "Rome", "New York", "Lima", "Port Louis")
    rows = []
    for i in range(60):
        name, other = names[i % 5], names[(i * 3 + 1) % 5]
        tags = ["B-place", *["I-place"] * (len(name.split()) - 1)]
        second = ["B-place", *["I-place"] * (len(other.split()) - 1)]
        words = f"train {i} from {name} to {other} ."
        rows.append((words, " ".join(["O", "O", "O", *tags, "O", *second, "O"])))
    path = tmp_path / "places.conll"
    path.write_text(columns(rows))
    return path


class Oracle(nn.Module):
    """Gives the tags that a task knows of every row, and can be told to fail on some words' first pieces."""

    def __init__(self, task: Tagging, split: str, wrong: int | None = None):
        super().__init__()
        ids, targets, lengths = task.rows[split]
        self.known = {tuple(row[:n].tolist()): t for row, t, n in zip(ids, targets, lengths.tolist(), strict=True)}
        self.classes, self.wrong = len(task.classes), wrong

    def forward(self, ids: Tensor, segments: Segments | None = None) -> Tensor:
        scores = torch.zeros(*ids.shape, self.classes)
        for i, row in enumerate(ids):
            valid = len(row) if segments is None else int(segments.valid[i].sum())
            for k, tag in enumerate(self.known[tuple(row[:valid].tolist())][:valid].tolist()):
                scores[i, k, 0 if tag == IGNORE else tag if self.wrong is None else self.wrong] = 9.0
        return scores


# -- rows ----------------------------------------------------------------------------------------------------


def test_the_first_piece_of_a_word_carries_its_tag_and_no_other(places: Path):
    task = Tagging(places, length=64)
    words, tags = ["from", "New", "York", "."], ["O", "B-place", "I-place", "O"]
    ((ids, targets),) = task.encode(words, tags, "here")
    assert bytes(ids[1:-1]) == b"from New York ." and (ids[0], ids[-1]) == (256, 257)
    carried = {"from New York ."[k - 1]: task.classes[t] for k, t in enumerate(targets) if t != IGNORE}
    assert carried == {"f": "O", "N": "B-place", "Y": "I-place", ".": "O"}  # not the spaces before them
    batch = task.sample("train", torch.arange(3))
    assert (batch["targets"] != IGNORE).sum(1).tolist() == [len(s.words) for s in task.sentences["train"][:3]]
    assert task.count(batch) == sum(len(s.words) for s in task.sentences["train"][:3])


def test_subwords_of_a_learned_tokenizer_carry_a_tag_a_word(places: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("ANYFORMER_CACHE", str(tmp_path))
    for tokenizer in ("wordpiece", "bpe"):
        task = Tagging(places, tokenizer=tokenizer, vocab_size=280)
        for sentence, tags in zip(task.sentences["test"], task.truth["test"], strict=True):
            ((ids, targets),) = task.encode(sentence.words, tags, "here")
            assert [task.classes[t] for t in targets if t != IGNORE] == tags
            firsts = [k for k, t in enumerate(targets) if t != IGNORE]
            pieces = task.tokenizer.pieces
            starts = [pieces[ids[k]].strip() for k in firsts]
            assert all(w.startswith(s) for w, s in zip(sentence.words, starts, strict=True))


def test_padding_beside_a_sentence_changes_nothing(places: Path):
    torch.manual_seed(0)
    task = Tagging(places, length=64)
    model = create_model("bert_micro", **task.model_options()).eval()
    batch = task.sample("train", torch.arange(4))
    alone = {name: t[:1] for name, t in batch.items()}
    n = int(alone["lengths"])
    together = task.logits(model, batch)[:1, :n]
    alone = {"ids": alone["ids"][:, :n], "targets": alone["targets"][:, :n], "lengths": alone["lengths"]}
    torch.testing.assert_close(together, task.logits(model, alone), rtol=1e-4, atol=1e-5)


# -- spans ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(FORMS))
def test_all_forms_of_tags_are_learned_as_bio(tmp_path: Path, form: str):
    assert to_bio(FORMS[form]) == FORMS["BIO"]
    rows = [(f"New York Rome saw Ann{i}", " ".join(FORMS[form])) for i in range(10)]
    (tmp_path / "a.txt").write_text(columns(rows, "\t"))
    task = Tagging(tmp_path / "a.txt")
    assert task.spans and task.classes == ("O", "B-loc", "I-loc", "B-per", "I-per")
    assert all(tags == FORMS["BIO"] for part in task.truth.values() for tags in part)


def test_spans_count_when_they_are_exact(places: Path):
    task = Tagging(places, length=64)
    perfect = task.evaluate(Oracle(task, "test"), "test", batch_size=4)
    assert perfect["f1"] == perfect["precision"] == perfect["recall"] == perfect["accuracy"] == 1
    assert perfect["loss"] < 0.01 and perfect["words"] == sum(len(s.words) for s in task.sentences["test"])
    silent = task.evaluate(Oracle(task, "test", wrong=0), "test")
    assert silent["f1"] == silent["recall"] == 0 and 0 < silent["accuracy"] < 1
    # by hand: [New York] found whole, [Rome] with a word too many, [Lima] missed, one invented
    truth = [["B-place", "I-place", "O", "B-place", "O"], ["B-place", "O"]]
    guess = [["B-place", "I-place", "O", "B-place", "I-place"], ["O", "B-place"]]
    task.truth["test"] = truth
    found = task.measured("test", guess)
    assert found["precision"] == pytest.approx(1 / 3) and found["recall"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx(1 / 3) and found["accuracy"] == pytest.approx(4 / 7)
    assert found["kinds"] == {"place": {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3, "spans": 3}}


def test_tags_of_single_words_are_measured_by_accuracy(tmp_path: Path):
    (tmp_path / "ud.conllu").write_text(
        "".join(
            f"# sent_id = {i}\n# a comment\n1-2\tdon't\t_\n1\tdo\tVERB\n2\tn't\tPART\n2.1\tnone\t_\n3\tgo{i}\tVERB\n\n"
            for i in range(20)
        )
    )
    task = Tagging(tmp_path / "ud.conllu", word_column=1)
    assert not task.spans and task.metric == "accuracy" and task.classes == ("PART", "VERB")
    assert task.sentences["train"][0].tags == ("VERB", "PART", "VERB")
    found = task.evaluate(Oracle(task, "valid"), "valid")
    assert found["accuracy"] == found["f1"] == 1 and found["classes"]["PART"]["samples"] == len(task.sentences["valid"])
    assert task.baseline().value == pytest.approx(1)  # "do", "n't", and VERB for unknown words
    model = create_model("bert_micro", **task.model_options())
    (said,) = task.predict(model, [["do", "n't"]])
    assert said["tagged"].startswith("do/") and "spans" not in said and len(task.pictures(model, n=2)) == 2


def test_the_baseline_is_each_words_usual_tag(places: Path):
    task = Tagging(places, length=64)
    task.sentences["train"] = [Sentence(("Rome", "Rome", "Rome", "is", "so"), ("B-place", "B-place", "O", "O", "O"))]
    task.truth["train"] = [["B-place", "B-place", "O", "O", "O"]]
    task.sentences["valid"] = [Sentence(("Rome", "is", "Lima"), ("B-place", "O", "B-place"))]
    task.truth["valid"] = [["B-place", "O", "B-place"]]
    assert task.baseline().value == pytest.approx(2 / 3)  # one of two spans, none wrong


# -- training and predicting ---------------------------------------------------------------------------------


def test_places_are_learned_and_found_in_a_plain_text(places: Path):
    task = Tagging(places, length=64)
    config = TrainConfig(budget="40epochs", batch_size=16, learning_rate=3e-3)
    result = train("bert_micro", task, config, progress=False)
    assert result.metrics["f1"] > 0.8
    words = ["train", "7", "from", "New", "York", "to", "Oslo", "."]
    said, same = task.predict(result.model, ["train 7 from New York to Oslo.", words])
    assert said["words"] == words and said["tags"] == same["tags"]
    assert said["tagged"] == bracketed(said["words"], said["tags"])
    picture, other = task.pictures(result.model, n=2)
    assert picture.pixels.shape[2] == 3 and not (picture.pixels == 255).all() and other.caption == picture.caption
    assert {"kind": "place", "start": 3, "end": 5, "text": "New York"} in said["spans"]
    with pytest.raises(DataError, match="texts with words, or lists of words; given ''"):
        task.predict(result.model, [""])
    with pytest.raises(DataError, match=r"what is given .* has \d+ tokens, marks included, and length is 64"):
        task.predict(result.model, ["Rome " * 40])


def test_sentences_are_shown_with_their_spans_in_brackets():
    words = ["from", "New", "York", "Rome"]
    assert bracketed(words, ["O", "B-place", "I-place", "B-place"]) == "from [place: New York] [place: Rome]"


# -- too long ------------------------------------------------------------------------------------------------


def test_sentences_that_are_too_long_are_refused_or_split_between_words(places: Path):
    with pytest.raises(DataError, match=r"part of .*places\.conll, sentence \d+ .* marks included, and length is 20"):
        Tagging(places, length=20)
    task = Tagging(places, length=20, overlong="split")
    assert task.size("train") > len(task.sentences["train"]) and task.facts()["split"]["train"] > 0
    assert task.evaluate(Oracle(task, "valid"), "valid", batch_size=3)["f1"] == 1  # rows become sentences again
    model = create_model("bert_micro", **task.model_options())
    (said,) = task.predict(model, ["from Rome " * 10])
    assert len(said["tags"]) == 20
    with pytest.raises(DataError, match=r"the word 'x+' has 30 tokens, and a row of length=20 has room for 18"):
        task.predict(model, ["x" * 30])


# -- files ---------------------------------------------------------------------------------------------------


def test_columns_comments_and_document_marks_are_read(tmp_path: Path):
    with pytest.raises(DataError, match=r"has no file of the training part, such as train\.txt"):
        read_conll(tmp_path)
    text = (
        "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n# text = German\nGerman JJ B-MISC\ncall NN O\n# # O\n\n\n"
    )
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (tmp_path / name).write_text(text)
    parts = read_conll(tmp_path)
    assert {split: len(part) for split, part in parts.items()} == {"train": 2, "valid": 2, "test": 2}
    assert parts["test"][0] == Sentence(("EU", "rejects"), ("B-ORG", "O"))
    assert parts["test"][1] == Sentence(("German", "call", "#"), ("B-MISC", "O", "O"))
    assert read_conll(tmp_path, tag=1)["test"][0].tags == ("NNP", "VBZ")


def test_equal_sentences_are_not_in_two_parts(tmp_path: Path):
    (tmp_path / "a.txt").write_text(columns([(f"number {i // 4}", "O B-n") for i in range(80)]))
    parts = read_conll(tmp_path / "a.txt")
    words = [{sentence.words for sentence in part} for part in parts.values()]
    assert sum(map(len, words)) == 20 == len(set.union(*words)) and len(parts["train"]) == 64


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a O\nb\n", {}, r"a\.txt, line 2: 1 columns where the first line has 2; 'b'"),
        ("a O\n", {"tag_column": 3}, r"line 1: there are 2 columns, and the word is to stand in column 0, its"),
        ("a O\n", {"tag_column": 0}, r"name two of them, from 0 to 1; given 'a O'"),
        ("a\t\n", {}, r"line 1: the word or its tag is empty"),
        ("-DOCSTART- O\n\n", {}, r"leaves no samples for the train part"),
        ("a O\n\nb O\n", {}, r"leaves no samples for the train part"),
        ("a O\n\nb O\n\nc O\n", {}, r"has only the tag 'O'; two or more are needed"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path: Path, content: str, options: dict, message: str):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        Tagging(tmp_path / "a.txt", **options)


def test_models_and_options_that_do_not_fit_are_refused(places: Path):
    task = Tagging(places, length=64)
    batch = task.sample("train", torch.arange(2))
    with pytest.raises(FitError, match="takes scores of 3 tags at every token; this model gives"):
        task.loss(create_model("bert_micro", vocab_size=258), batch)
    with pytest.raises(SizeError, match="sequences of up to 64 tokens, and the model takes 32"):
        task.loss(create_model("bert_micro", **{**task.model_options(), "max_length": 32}), batch)
    with pytest.raises(OptionError, match="overlong is 'refuse' or 'split'; given 'cut'"):
        Tagging(places, overlong="cut")
    with pytest.raises(OptionError, match="length is 3 or more; given 2"):
        Tagging(places, length=2)


def test_generated_sentences_have_new_names_that_only_their_place_tells_apart():
    task = create_task("tagging", sentences=400)
    assert task.classes == ("O", *(f"{mark}-{kind}" for kind in ("company", "person", "place") for mark in "BI"))
    assert {split: len(part) for split, part in task.sentences.items()} == {"train": 400, "valid": 50, "test": 50}
    sentences = [{sentence.words for sentence in part} for part in task.sentences.values()]
    assert len(set.union(*sentences)) == 500
    kinds: dict[str, set[str]] = {}
    for sentence in reports(3000):
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            kinds.setdefault(word, set()).add(tag[2:])
    assert len(kinds) > 1000 and sum(found == {"person", "place", "company"} for found in kinds.values()) > 100
    assert all("" not in found or len(found) == 1 for found in kinds.values())  # no name is an ordinary word
    assert json.loads(json.dumps(task.facts()))["sentences"]["train"] == 400
    assert "[person: " in " ".join(example["truth"] for example in task.examples("valid", 20))
    with pytest.raises(OptionError, match="reports are one sentence or more; given 0"):
        create_task("tagging", sentences=0)
