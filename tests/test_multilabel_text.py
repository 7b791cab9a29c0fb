"""Texts with several labels: readers, the loss, F1 as others measure it, the trivial answer, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sklearn import metrics as reference
from torch.nn import functional as F

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.characters import KINDS, characters
from anyformer.data.labelled_text import Columns, MultiLabelled, read_multilabelled
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks import create_task
from anyformer.tasks.multilabel_text import MultilabelText

WORDS = ("red", "green", "blue")


def rows() -> list[tuple[str, list[str]]]:
    """Texts that name any of three colours, and which."""
    chosen = [[word for k, word in enumerate(WORDS) if i >> k & 1] for i in range(64)]
    return [(f"{' and '.join(own) or 'nothing'} of {i}", own) for i, own in enumerate(chosen)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "colours.csv"
    lines = ["text,labels"] + [f"{text},{'; '.join(own)}" for text, own in rows()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "colours.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "labels": own}) for text, own in rows()), encoding="utf-8")
    return path


def test_tables_and_lines_say_the_same(table: Path, lines: Path):
    parts = read_multilabelled(table)
    assert parts == read_multilabelled(lines)
    found = {sample.texts[0]: sample.labels for part in parts.values() for sample in part}
    assert found == {text: tuple(own) for text, own in rows()}
    assert MultiLabelled(("nothing of 0",), ()) in [sample for part in parts.values() for sample in part]


def test_another_separator_pairs_and_given_parts(tmp_path: Path):
    for split, many in (("train", 8), ("dev", 2), ("test", 2)):
        text = "".join(f"a{i}\tb{i}\tx | y |x\n" for i in range(many))
        (tmp_path / f"{split}.tsv").write_text("one\ttwo\ttags\n" + text, encoding="utf-8")
    parts = read_multilabelled(tmp_path, Columns("one", "tags", "two"), "|")
    assert {split: len(part) for split, part in parts.items()} == {"train": 8, "valid": 2, "test": 2}
    assert parts["valid"][0] == MultiLabelled(("a0", "b0"), ("x", "y"))
    task = MultilabelText(tmp_path, text="one", second="two", label="tags", separator="|", length=16)
    assert task.evaluate(create_model("bert_micro", **task.model_options()))["micro_f1"] >= 0
    assert len(task.predict(create_model("bert_micro", **task.model_options()), ["a\tb"])) == 1


def test_a_rare_label_is_in_the_training_part(tmp_path: Path):
    path = tmp_path / "rare.jsonl"
    held = [{"text": f"t{i}", "labels": ["common", "other"] if i % 2 else ["common"]} for i in range(30)]
    held[17]["labels"] = ["common", "rare"]
    path.write_text("\n".join(json.dumps(row) for row in held), encoding="utf-8")
    for seed in range(5):
        parts = read_multilabelled(path, seed=seed)
        assert any("rare" in sample.labels for sample in parts["train"])


def test_targets_loss_and_smoothing(table: Path):
    task = MultilabelText(table, length=40)
    assert task.classes == ("blue", "green", "red")
    batch = task.sample("train", torch.arange(5))
    for row, sample in zip(batch["labels"].tolist(), task.samples["train"][:5], strict=True):
        assert row == [float(name in sample.labels) for name in task.classes]
    torch.manual_seed(0)
    model = create_model("bert_micro", **task.model_options()).eval()
    log_yes, log_no = F.logsigmoid(task.logits(model, batch)), F.logsigmoid(-task.logits(model, batch))
    for smoothing in (0.0, 0.2):
        soft = batch["labels"] * (1 - smoothing) + smoothing / 2
        expected = -(soft * log_yes + (1 - soft) * log_no).mean()
        torch.testing.assert_close(task.loss(model, batch, label_smoothing=smoothing), expected)
    assert task.count(batch) == 15


def test_measures_agree_with_scikit_learn_and_torchmetrics(table: Path):
    from torchmetrics.functional.classification import multilabel_f1_score

    torch.manual_seed(0)
    task = MultilabelText(table, length=40, threshold=0.48)
    model = create_model("bert_micro", **task.model_options())
    found = task.evaluate(model, "train", batch_size=7)
    truth = task.parts["train"][1].int()
    guess = torch.tensor([[int(name in own) for name in task.classes] for own in found["guesses"]])
    assert 0 < guess.float().mean() < 1
    for average in ("micro", "macro"):
        ours = found[f"{average}_f1"]
        assert ours == pytest.approx(reference.f1_score(truth, guess, average=average, zero_division=0))
        assert ours == pytest.approx(float(multilabel_f1_score(guess, truth, num_labels=3, average=average)))
    assert found["exact"] == pytest.approx(reference.accuracy_score(truth, guess))
    assert found["classes"]["red"]["recall"] == pytest.approx(reference.recall_score(truth[:, 2], guess[:, 2]))
    whole = task.sample("train", torch.arange(task.size("train")))
    with torch.no_grad():
        assert found["loss"] == pytest.approx(float(task.loss(model.eval(), whole)), rel=1e-5)


def test_the_trivial_answer_is_the_best_constant_one(table: Path):
    task = MultilabelText(table, length=40)
    truth = task.parts["train"][1].int()
    scores = []
    for mask in range(1, 8):
        guess = torch.tensor([[mask >> k & 1 for k in range(3)]]).expand_as(truth)
        scores.append(reference.f1_score(truth, guess, average="micro"))
    assert task.baseline("train").value == pytest.approx(max(scores))


def test_labels_are_learned_and_told_of_new_texts(table: Path):
    task = MultilabelText(table, length=40)
    result = train("lra_micro", task, TrainConfig(budget="60epochs", batch_size=16, learning_rate=3e-3), progress=False)
    assert result.metrics["micro_f1"] > task.baseline().value + 0.15
    (said,) = task.predict(result.model, ["green and blue of 99"])
    assert {"green", "blue"} <= set(said["labels"]) and set(said["probabilities"]) == set(WORDS)
    assert all((p >= task.threshold) == (name in said["labels"]) for name, p in said["probabilities"].items())


def test_the_shipped_texts_are_names_of_characters():
    task = create_task("multilabel_text")
    assert [task.size(split) for split in ("train", "valid", "test")] == [4000, 500, 500]
    everything = [sample for part in task.samples.values() for sample in part]
    assert len({sample.texts for sample in everything}) == len(everything)
    assert all(sample.labels for sample in everything) and set(KINDS.values()) <= set(task.classes)
    held = {sample.texts[0]: sample.labels for sample in characters(20_000)}
    assert held["latin capital letter e with acute"] == ("capital", "composed", "letter")
    assert held["hebrew letter alef"] == ("letter", "right to left")
    assert 0.1 < task.baseline().value < 0.7
    assert ", " in "".join(example["truth"] for example in task.examples("test", 20))
    assert json.loads(json.dumps(task.facts()))["threshold"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a", "labels": 3}', r"line 1: labels are a text with ';' between them or a list of texts; given 3"),
        ('{"text": "a", "labels": ["x", 3]}', r"line 1: labels are a text"),
        ('{"text": " ", "labels": ["x"]}', r"line 1: 'text' is empty"),
        ('{"text": "a", "label": ["x"]}', r"there is no 'labels' among text, label"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path: Path, text: str, message: str):
    path = tmp_path / "wrong.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        MultilabelText(path)


def test_options_that_make_no_sense(table: Path, tmp_path: Path):
    with pytest.raises(OptionError, match=r"a probability between 0 and 1; given 1\.5"):
        MultilabelText(table, threshold=1.5)
    with pytest.raises(OptionError, match="second names a column of a file"):
        MultilabelText(second="other")
    with pytest.raises(OptionError, match="given an empty one"):
        MultilabelText(table, separator="")
    with pytest.raises(DataError, match=r"a folder without train.csv, train.tsv or train.jsonl"):
        MultilabelText(tmp_path)


def test_a_label_that_training_lacks_is_named(tmp_path: Path):
    path = tmp_path / "late.csv"
    path.write_text("text,labels,split\na,x,train\nb,y,train\nc,z,valid\nd,x,test\n", encoding="utf-8")
    with pytest.raises(DataError, match="valid: 'z' is no class of the training part"):
        MultilabelText(path)
