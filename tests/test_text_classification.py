"""Classes of texts and of pairs of texts: rows with marks, what encoders are told of pairs, readers, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import DataError, FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.data.diaries import DAYS, diaries
from anyformer.data.documents import sentences
from anyformer.data.labelled_text import Columns, Labelled, read_labelled
from anyformer.data.long_text import table
from anyformer.data.splits import part_files
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.pooling.ponet import PoNet, SectionSegments
from anyformer.methods.pretraining.sentence_structure import NEXT, PREVIOUS, sentence_pairs
from anyformer.tasks import create_task
from anyformer.tasks.sentence_structure import SentenceStructure
from anyformer.tasks.text_classification import TextClassification, TextRows

COLOURS = ("red", "green", "blue")


def write_table(path: Path, rows: list[dict[str, str]], comma: str = ",") -> Path:
    names = list(rows[0])
    lines = [comma.join(names)] + [comma.join(str(row[name]) for name in names) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    rows = [
        {"text": f"the {COLOURS[i % 3]} one, number {i}".replace(",", ""), "label": COLOURS[i % 3]} for i in range(60)
    ]
    return write_table(tmp_path / "colours.csv", rows)


@pytest.fixture
def matches(tmp_path: Path) -> Path:
    """Pairs of letters, equal or not."""
    letters = "abcdefghijkl"
    rows = [
        {"one": x * 3, "two": y * 2, "same": "yes" if x == y else "no"}
        for i, x in enumerate(letters)
        for y in (x, letters[(i + 5) % 12])
    ]
    return write_table(tmp_path / "matches.tsv", rows, "\t")


@pytest.fixture
def pairs(matches: Path) -> TextClassification:
    return TextClassification(matches, text="one", second="two", label="same", length=16)


class Told(nn.Module):
    """Remembers what it is called with, and says class 0."""

    def __init__(self, classes: int = 2):
        super().__init__()
        self.classes = classes

    def forward(self, *inputs) -> Tensor:
        self.inputs = inputs
        return torch.zeros(len(inputs[0]), self.classes)


# -- rows and what models are told ---------------------------------------------------------------------------


def test_a_text_stands_between_its_marks(colours: Path):
    task = TextClassification(colours, length=40)
    sample = task.samples["train"][0]
    batch = task.sample("train", torch.tensor([0]))
    assert batch["ids"].tolist() == [[256, *sample.texts[0].encode(), 257]]
    assert batch["lengths"].tolist() == [len(sample.texts[0]) + 2]
    assert task.classes == ("blue", "green", "red") and task.classes[int(batch["labels"])] == sample.label
    assert task.model_options() == {"num_classes": 3, "vocab_size": 258, "max_length": 40}


def test_encoders_are_told_kinds_and_sections_of_a_pair(pairs: TextClassification):
    told = Told()
    batch = pairs.sample("train", torch.arange(4))
    batch = {name: torch.cat([t, t[:1]]) for name, t in batch.items()}
    row = torch.tensor([256, 97, 97, 97, 257, 98, 98, 257, 0, 0])
    batch["ids"] = torch.cat([torch.nn.functional.pad(batch["ids"][:4], (0, 2)), row[None]])
    pairs.logits(told, batch)
    ids, segments, kinds = told.inputs
    assert torch.equal(ids, batch["ids"])
    assert kinds[4].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert segments.sections[4].tolist() == [0, 1, 1, 1, 2, 3, 3, 4, 4, 4]
    assert segments.ids[4].tolist() == [1] * 8 + [0] * 2


def test_kinds_reach_the_embedding_and_sections_the_pooling(pairs: TextClassification):
    torch.manual_seed(0)
    batch = pairs.sample("train", torch.arange(3))
    bert = create_model("bert_micro", **pairs.model_options()).eval()
    with torch.no_grad():
        logits = pairs.logits(bert, batch)
        bert.embedding.types.weight[1] = torch.randn(64)
        assert not torch.allclose(pairs.logits(bert, batch), logits)
        one_kind = create_model("bert_micro", **pairs.model_options(), types=1).eval()
        assert pairs.logits(one_kind, batch).shape == (3, 2)  # RoBERTa's one kind is that of both texts
    seen = []
    ponet = create_model("ponet_micro", **pairs.model_options()).eval()
    ponet.blocks[0].mixer.register_forward_hook(lambda m, inputs, output: seen.append((inputs, output)))
    pairs.logits(ponet, batch)
    (inputs, output) = seen[0]
    x, segments = inputs
    mixer: PoNet = ponet.blocks[0].mixer
    torch.testing.assert_close(output, mixer(x, Segments(segments.ids), segments.sections))
    assert not torch.allclose(output, mixer(x, Segments(segments.ids)))


def test_sections_travel_with_segments_in_any_shape():
    sections = torch.tensor([[0, 0, 1, 1]])
    marked = SectionSegments.mark(sections)
    assert marked.valid.all() and torch.equal(marked.flat().sections, sections)
    padded = SectionSegments.mark(sections, Segments(torch.tensor([[1, 1, 1, 0]])))
    assert padded.valid.tolist() == [[True, True, True, False]]


def test_padding_beside_a_row_changes_nothing(pairs: TextClassification):
    torch.manual_seed(0)
    for name in ("bert_micro", "ponet_micro"):
        model = create_model(name, **pairs.model_options(), head=Spec("pooler")).eval()
        batch = pairs.sample("train", torch.arange(2))
        wider = {**batch, "ids": torch.nn.functional.pad(batch["ids"], (0, 3))}
        torch.testing.assert_close(pairs.logits(model, wider), pairs.logits(model, batch), rtol=1e-4, atol=1e-5)


def test_pairs_are_read_by_encoders_alone(pairs: TextClassification):
    batch = pairs.sample("train", torch.arange(2))
    with pytest.raises(FitError, match="which an encoder such as bert_micro reads; given gpt2_micro"):
        pairs.loss(create_model("gpt2_micro", vocab_size=258, max_length=16), batch)
    with pytest.raises(SizeError, match="sequences of up to 16 tokens, and the model takes 8"):
        pairs.loss(create_model("bert_micro", vocab_size=258, max_length=8), batch)


# -- too long ------------------------------------------------------------------------------------------------


def test_what_is_too_long_is_said_and_cut_only_when_asked(matches: Path):
    options = {"text": "one", "second": "two", "label": "same"}
    with pytest.raises(
        DataError, match=r"(\d+) of \1 texts of the train part .* more tokens than length=6, the longest 8"
    ):
        TextClassification(matches, length=6, **options)
    task = TextClassification(matches, length=6, overlong="cut", **options)
    assert task.facts()["cut"] == {split: task.size(split) for split in ("train", "valid", "test")}
    row = task.sample("train", torch.tensor([0]))
    one, two = task.samples["train"][0].texts
    assert row["ids"].tolist() == [[256, *one[:2].encode(), 257, *two[:1].encode(), 257]]
    assert task.predict(create_model("bert_micro", **task.model_options()), [("aaaa", "bbbbbb")])[0]["label"] in (
        "no",
        "yes",
    )


@pytest.mark.parametrize(("first", "second", "kept"), [(9, 2, (6, 2)), (2, 9, (2, 6)), (9, 9, (4, 4)), (3, 3, (3, 3))])
def test_the_longer_text_of_a_pair_is_cut_first(pairs: TextClassification, first: int, second: int, kept):
    pairs.length = 11
    row, boundary = pairs.join([[1] * first, [2] * second])
    assert (row.count(1), row.count(2)) == kept and boundary == kept[0] + 2 and len(row) <= 11


def test_ids_of_large_vocabularies_are_held_in_four_bytes():
    ids, lengths = table([[119_546, 3], [5]], 4)
    assert ids.tolist() == [[119_546, 3], [5, 0]] and lengths.tolist() == [2, 1] and ids.dtype == torch.int32
    assert table([[32_767]], 4)[0].dtype == torch.int16


# -- measuring and predicting --------------------------------------------------------------------------------


def test_measures_agree_with_scikit_learn_and_torchmetrics(colours: Path):
    from torchmetrics.functional.classification import multiclass_f1_score

    torch.manual_seed(0)
    task = TextClassification(colours, length=40)
    model = create_model("bert_micro", **task.model_options())
    found = task.evaluate(model, "train", batch_size=7)
    truth = [sample.label for sample in task.samples["train"]]
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, found["guesses"]))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, found["guesses"], average="macro"))
    numbers = [torch.tensor([task.classes.index(k) for k in labels]) for labels in (found["guesses"], truth)]
    assert found["f1"] == pytest.approx(float(multiclass_f1_score(*numbers, num_classes=3, average="macro")))
    assert task.baseline("train").value == pytest.approx(max(truth.count(c) for c in COLOURS) / len(truth))


def test_a_class_is_learned_and_told_of_new_texts(colours: Path):
    task = TextClassification(colours, length=40)
    result = train("lra_micro", task, TrainConfig(budget="30epochs", batch_size=16, learning_rate=3e-3), progress=False)
    assert result.metrics["accuracy"] > task.baseline().value + 0.3
    (said,) = task.predict(result.model, ["the green one number 77"])
    assert said["label"] == "green" and said["input"] == "the green one number 77"
    assert sum(said["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(DataError, match="leave a token"):
        task.predict(result.model, [""])
    with pytest.raises(DataError, match="takes a text; given"):
        task.predict(result.model, [("a", "b")])
    with pytest.raises(DataError, match="1 of 1 texts of what is given"):
        task.predict(result.model, ["long " * 20])


def test_pairs_are_given_as_two_or_with_a_tab(pairs: TextClassification):
    model = create_model("bert_micro", **pairs.model_options())
    one, other = pairs.predict(model, [("aaa", "bb"), "aaa\tbb"])
    assert one["probabilities"] == other["probabilities"]
    with pytest.raises(DataError, match="two texts, or one string with a tab between them; given 'aaa'"):
        pairs.predict(model, ["aaa"])


def test_the_shipped_texts_are_docstrings_of_six_topics():
    task = create_task("text_classification")
    assert len(task.classes) == 6 and 0.1 < task.baseline().value < 0.4
    texts = [sample.texts for part in task.samples.values() for sample in part]
    assert len(set(texts)) == len(texts) > 1500
    assert json.loads(json.dumps(task.facts()))["cut"] == {"train": 0, "valid": 0, "test": 0}
    assert {"input", "truth"} <= set(task.examples("test", 2)[1])


def test_a_tokenizer_of_a_file_brings_its_own_marks(tmp_path: Path, colours: Path):
    library = pytest.importorskip("tokenizers")
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "red", "green", "blue", "one", "number"]
    made = library.Tokenizer(library.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    task = TextClassification(colours, tokenizer=str(tmp_path / "tokenizer.json"), length=10)
    row = task.sample("train", torch.tensor([0]))["ids"][0].tolist()
    assert (row[0], row[-1]) == (1, 2) and task.model_options()["vocab_size"] == 9


# -- files ---------------------------------------------------------------------------------------------------


def test_json_lines_folders_and_parts_are_read_alike(tmp_path: Path):
    lines = [json.dumps({"text": f"word {i}", "label": i % 2, "split": "test" if i > 15 else ""}) for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    parts = read_labelled(tmp_path / "rows.jsonl")
    assert [sample.texts[0] for sample in parts["test"]] == [f"word {i}" for i in range(16, 20)]
    assert {sample.label for sample in parts["train"]} == {"0", "1"} and parts["valid"]
    folder = tmp_path / "glue"
    folder.mkdir()
    for name, count in (("train", 6), ("dev", 2), ("test", 3)):
        rows = [{"sentence": f'{name} {i} "quoted', "label": "ab"[i % 2]} for i in range(count)]
        write_table(folder / f"{name}.tsv", rows, "\t")
    parts = read_labelled(folder, Columns(text="sentence"))
    assert {split: len(part) for split, part in parts.items()} == {"train": 6, "valid": 2, "test": 3}
    assert parts["valid"][0] == Labelled(('dev 0 "quoted',), "a")
    for kind in ("good", "bad"):
        (tmp_path / "films" / kind).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "films" / kind / f"{i}.txt").write_text(f"a {kind} film, {i}")
    parts = read_labelled(tmp_path / "films")
    assert all(sample.label in sample.texts[0] for part in parts.values() for sample in part)
    assert sum(map(len, parts.values())) == 16


def test_equal_texts_are_not_in_two_parts(tmp_path: Path):
    rows = [{"text": f"premise {i // 3}", "other": f"guess {i}", "label": "ab"[i % 2]} for i in range(90)]
    parts = read_labelled(write_table(tmp_path / "rows.csv", rows), Columns(second="other"))
    premises = [{sample.texts[0] for sample in part} for part in parts.values()]
    assert sum(map(len, premises)) == 30 == len(set.union(*premises))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "body,label\nx,1\n", r"a\.csv, line 2: there is no 'text' among body, label: name the columns"),
        ("a.csv", "text,label\nx\n", r"a\.csv, line 2: the row has other columns than text, label"),
        ("a.csv", "text,label\n ,1\n", r"a\.csv, line 2: 'text' is empty"),
        ("a.csv", "text,label,split\nx,1,late\n", r"line 2: the split is 'late'; it is train, valid, test or empty"),
        ("a.csv", "text,label\n", r"a\.csv has no rows"),
        ("a.csv", "text,label\nx,1\n", r"leaves no samples for the test part|leaves no samples for the valid part"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text"\n', r"a\.jsonl, line 2, is no JSON object"),
        ("a.jsonl", "[1]\n", r"a\.jsonl, line 1, is no object with a text and its class; given '\[1\]'"),
        ("a.jsonl", '{"text": "x"}\n', r"a\.jsonl, line 1: there is no 'label' among text"),
        ("a.parquet", "x", r"a\.parquet is none of \.csv, \.tsv, \.jsonl"),
    ],
)
def test_mistakes_in_files_are_named(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        TextClassification(tmp_path / name)


def test_mistakes_in_folders_and_options_are_named(tmp_path: Path, colours: Path):
    with pytest.raises(OptionError, match="second names a column of a file: give its path"):
        TextClassification(second="other")
    with pytest.raises(OptionError, match="overlong is 'refuse' or 'cut'; given 'trim'"):
        TextClassification(colours, overlong="trim")
    with pytest.raises(OptionError, match="a row of 1 texts with marks has 3 tokens or more; given 2"):
        TextClassification(colours, length=2)
    with pytest.raises(DataError, match=r"is a folder without train\.csv"):
        TextClassification(tmp_path, second="other")
    for name in ("train.csv", "my_train.csv"):
        (tmp_path / name).write_text("text,label\n")
    with pytest.raises(DataError, match=r"two files of the train part, my_train\.csv and train\.csv: keep one"):
        part_files(tmp_path, (".csv",))
    row = [Labelled(("x",), "a"), Labelled(("y",), "b")]
    with pytest.raises(DataError, match="'c' is no class of the training part"):
        TextRows({"train": row, "valid": [Labelled(("x",), "c")], "test": row}, source="here")
    with pytest.raises(DataError, match=r"here has 1 classes \(a\); two or more"):
        TextRows({"train": row[:1], "valid": row[:1], "test": row[:1]}, source="here")


# -- sentences -----------------------------------------------------------------------------------------------


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    lines = [" ".join(f"Tale {d} has a part {i}." for i in range(5)) for d in range(40)]
    (tmp_path / "stories.txt").write_text("\n".join(lines))
    return tmp_path / "stories.txt"


@pytest.mark.parametrize(("objective", "classes"), [("structure", 3), ("next", 2), ("order", 2)])
def test_pairs_of_sentences_are_labelled_by_where_they_stand(stories: Path, objective: str, classes: int):
    task = SentenceStructure(stories, objective=objective, pairs=80)
    assert len(task.classes) == classes and task.size("train") == 80 and task.size("test") == 10
    tales: dict[str, set[str]] = {}
    for split, part in task.samples.items():
        for sample in part:
            (one, i), (two, j) = ((words[1], int(words[5][:-1])) for words in map(str.split, sample.texts))
            expected = "other" if one != two else {1: "next", -1: "previous"}[j - i]
            assert sample.label == expected and expected in task.classes
            tales.setdefault(split, set()).update((one, two))
    assert not tales["train"] & tales["valid"] and not tales["train"] & tales["test"]
    assert task.facts()["objective"] == objective
    assert task.loss(create_model("ponet_micro", **task.model_options()), task.sample("train", torch.arange(4))) > 0


def test_sentences_end_at_stops():
    text = 'First one. Second,\nof 3.5 parts! "Third" one? e.g. this'
    assert sentences(text) == ["First one.", "Second, of 3.5 parts!", '"Third" one? e.g. this']
    documents = [[(d, i) for i in range(4)] for d in range(3)]
    assert {pair.label for pair in sentence_pairs(documents, 50, kinds=(NEXT, PREVIOUS))} == {NEXT, PREVIOUS}
    with pytest.raises(OptionError, match="an objective is one of structure, next, order"):
        SentenceStructure(objective="before")


def test_the_shipped_diaries_are_weeks_of_one_person():
    task = create_task("sentence_structure", pairs=200, seed=1)
    assert task.size("train") == 200 and task.cut == {"train": 0, "valid": 0, "test": 0}
    found = diaries(50, seed=3)
    assert len(set(found)) == 50 and found == diaries(50, seed=3) != diaries(50, seed=4)
    for diary in found:
        week = [sentence.split()[1:3] for sentence in sentences(diary)]
        assert [day for day, _ in week] == list(DAYS) and len({name for _, name in week}) == 1
    with pytest.raises(OptionError, match="diaries are one or more; given 0"):
        diaries(0)
