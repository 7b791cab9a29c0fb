"""Tasks: sampling without a state, losses, metrics against scikit-learn, and what reports show."""

from __future__ import annotations

import json
import math

import pytest
import torch
from PIL import Image
from sklearn import metrics as reference
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError, UnknownName
from anyformer.core.registry import index, resolve
from anyformer.data.images import MEAN, STD
from anyformer.data.transforms import Augment
from anyformer.tasks import create_task, metrics
from anyformer.tasks.classification import Digits, Files, Held, ImageClassification
from anyformer.tasks.language import Text
from anyformer.tasks.task import IGNORE
from anyformer.tasks.translation import END, MARKS, PAD, START, Dates, Pairs, write


class Linear(nn.Module):
    """The smallest image model."""

    def __init__(self, pixels: int = 64, classes: int = 10):
        super().__init__()
        self.out = nn.Linear(pixels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(images.flatten(1))


class Bigram(nn.Module):
    """The smallest language model: a table."""

    def __init__(self, table: Tensor):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, ids: Tensor, segments=None) -> Tensor:
        return self.table[ids]


class Oracle(nn.Module):
    """Knows the target of every source; writes it, and can be told to fail on some."""

    def __init__(self, task, vocab: int, failing: set[str] = frozenset()):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.vocab = vocab
        self.answers = {}
        for split in task.parts:
            for (source, _), (encoded, target) in zip(task.parts[split], task.encoded[split], strict=True):
                wrong = [target[0] + 1, *target[1:]]
                self.answers[tuple(encoded)] = [*(wrong if source in failing else target), END]

    def forward(self, source: Tensor, target: Tensor, source_segments=None, target_segments=None) -> Tensor:
        assert torch.equal(source_segments.valid, source != PAD)
        logits = torch.zeros(*target.shape, self.vocab)
        for row, (tokens, valid) in enumerate(zip(source.tolist(), source_segments.valid.tolist(), strict=True)):
            answer = self.answers[tuple(t for t, v in zip(tokens, valid, strict=True) if v)]
            for place in range(target.shape[1]):
                logits[row, place, answer[min(place, len(answer) - 1)]] = 50.0
        return logits + 0 * self.weight


@pytest.fixture(scope="module")
def text():
    return Text(length=64)


@pytest.fixture(scope="module")
def dates():
    return Dates(pairs=200)


@pytest.fixture
def tasks(text, dates):
    return [Digits(Augment(crop=1, erase=0.5)), text, dates]


# -- every family ------------------------------------------------------------------------------------------


def test_a_sample_is_the_same_in_every_batch(tasks):
    for task in tasks:
        rows = torch.tensor([5, 3, 11, 0])
        batch = task.sample("train", rows, seed=9, train=True)
        again = task.sample("train", rows, seed=9, train=True)
        alone = task.sample("train", rows[2:3], seed=9, train=True)
        for name, tensor in batch.items():
            assert torch.equal(tensor, again[name])
            width = alone[name].shape[1] if alone[name].ndim > 1 else None
            assert torch.equal(tensor[2:3, :width] if width else tensor[2:3], alone[name])


def test_seeds_change_training_samples_and_never_measured_ones(text):
    for task in (Digits(Augment(crop=1)), text):
        name = "ids" if task is text else "images"
        rows = torch.arange(6)
        first, second = (task.sample("train", rows, seed=s, train=True)[name] for s in (1, 2))
        assert not torch.equal(first, second)
        first, second = (task.sample("valid", rows, seed=s)[name] for s in (1, 2))
        assert torch.equal(first, second)


def test_what_tasks_say_of_themselves_is_plain_data(tasks):
    for task in tasks:
        assert json.loads(json.dumps(task.facts()))["task"] == task.name
        examples = task.examples("valid", 3)
        assert len(examples) == 3 and all({"input", "truth"} <= set(e) for e in examples)
        with pytest.raises(OptionError, match="a split is one of train, valid, test; given 'dev'"):
            task.size("dev")


def test_tasks_are_made_by_name_and_mistakes_are_one_sentence(tmp_path):
    assert isinstance(create_task("digits"), Digits)
    made = create_task("dates", pairs=50)
    assert made.size("train") == 50 and create_task(made) is made
    (tmp_path / "some.txt").write_text("words and words\n\n" * 400)
    assert create_task(f"text:{tmp_path / 'some.txt'}", length=32).source.endswith("some.txt")
    with pytest.raises(UnknownName, match="there is no task 'digit'; did you mean 'digits'"):
        create_task("digit")
    with pytest.raises(OptionError, match="task 'text' has no option 'lenght'; did you mean 'length'"):
        create_task("text", lenght=3)
    with pytest.raises(OptionError, match="task 'images' needs path"):
        create_task("images")


# -- metrics -----------------------------------------------------------------------------------------------


def test_metrics_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(5, (300,), generator=generator)
    guess = torch.where(
        torch.rand(300, generator=generator) < 0.6, truth, torch.randint(4, (300,), generator=generator)
    )
    table = metrics.confusion(truth, guess, 6)  # class 5 is never there, class 4 hardly guessed
    labels = list(range(6))
    assert table.tolist() == reference.confusion_matrix(truth, guess, labels=labels).tolist()
    assert metrics.accuracy(table) == pytest.approx(reference.accuracy_score(truth, guess))
    for ours, theirs in ((metrics.f1, reference.f1_score), (metrics.recall, reference.recall_score)):
        expected = theirs(truth, guess, average=None, labels=labels, zero_division=0)
        assert ours(table).tolist() == pytest.approx(expected.tolist())


def test_bits_per_byte_of_a_uniform_guess_over_bytes_is_eight():
    assert metrics.bits_per_byte(math.log(256), 1000, 1000) == pytest.approx(8)
    assert metrics.bits_per_byte(math.log(1024), 500, 1000) == pytest.approx(5)


# -- classification ----------------------------------------------------------------------------------------


def test_evaluation_of_a_classifier_agrees_with_scikit_learn():
    torch.manual_seed(0)
    task, model = Digits(), Linear()
    model.train()
    found = task.evaluate(model, "test", batch_size=50)
    assert model.training
    images, truth = task.parts["test"].images, task.parts["test"].labels
    with torch.no_grad():
        logits = model(images)
    guess = logits.argmax(-1)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, guess))
    assert found["f1"] == pytest.approx(reference.f1_score(truth, guess, average="macro"))
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, truth)), rel=1e-5)
    assert found["guesses"] == [str(k) for k in guess.tolist()]
    assert found["classes"]["3"]["samples"] == int((truth == 3).sum())
    assert found["classes"]["3"]["recall"] == pytest.approx(
        reference.recall_score(truth, guess, average=None, zero_division=0)[3]
    )


def test_mixing_shares_the_label_as_it_shares_the_image():
    torch.manual_seed(0)
    task, model, rows = Digits(), Linear(), torch.arange(8)
    batch = task.sample("train", rows)
    mixed = task.mix(batch, seed=4, indices=rows, mixup=0.5)
    logits = model(mixed["images"]).log_softmax(-1)
    soft = torch.zeros(8, 10)
    soft[rows, batch["labels"]] += mixed["share"]
    soft[rows, batch["labels"][[1, 0, 3, 2, 5, 4, 7, 6]]] += 1 - mixed["share"]
    torch.testing.assert_close(task.loss(model, mixed), -(soft * logits).sum(-1).mean())
    smooth = 0.9 * soft + 0.1 / 10
    torch.testing.assert_close(task.loss(model, mixed, label_smoothing=0.1), -(smooth * logits).sum(-1).mean())
    with pytest.raises(OptionError, match="exclude each other"):
        task.mix(batch, seed=4, indices=rows, mixup=0.5, cutmix=1.0)


def test_only_images_are_mixed(text):
    with pytest.raises(OptionError, match="the task 'text' has none"):
        text.mix({}, seed=0, indices=torch.arange(2), mixup=0.1)


def test_labels_and_classes_are_checked_when_a_task_is_made():
    def made(labels, classes):
        part = Held(torch.zeros(3, 1, 4, 4), torch.tensor(labels))
        return ImageClassification(dict.fromkeys(("train", "valid", "test"), part), classes, (1, 4, 4), (0, 1), None)

    assert made([0, 1, 1], "ab").model_options() == {"num_classes": 2, "in_channels": 1, "image_size": 4}
    with pytest.raises(DataError, match="train, row 1: the label is 2; with 2 classes it is 0 to 1"):
        made([0, 2, 1], "ab")
    with pytest.raises(DataError, match="takes two or more classes; the task 'images' has 1"):
        made([0, 0, 0], "a")


@pytest.fixture
def photos(tmp_path):
    for kind, level in (("dark", 30), ("light", 220)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (10, 14), (level + i,) * 3).save(tmp_path / "photos" / kind / f"{i}.jpg")
    return tmp_path / "photos"


def test_a_folder_of_photos_is_a_task_that_predicts_files(photos):
    (photos / "dark" / "8.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"8\.jpg cannot be read"):
        Files(photos, image_size=8)
    task = Files(photos, image_size=8, on_error="skip")
    assert task.facts()["skipped"] == [str(photos / "dark" / "8.jpg")]
    assert task.model_options() == {"num_classes": 2, "in_channels": 3, "image_size": 8}
    model = Linear(3 * 64, 2)
    with torch.no_grad():
        model.out.weight.copy_(torch.stack([-torch.ones(192), torch.ones(192)]))
    assert task.evaluate(model, "valid")["accuracy"] == 1
    found = task.predict(model, [photos / "light" / "3.jpg", str(photos / "dark" / "3.jpg")])
    assert [f["label"] for f in found] == ["light", "dark"]
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)
    image = torch.full((3, 8, 8), (0.9 - MEAN) / STD)
    assert task.predict(model, [image])[0]["label"] == "light" and task.predict(model, []) == []
    with pytest.raises(DataError, match="there is no image"):
        task.predict(model, [photos / "none.jpg"])
    with pytest.raises(DataError, match=r"takes images \(3, 8, 8\); given \(1, 8, 8\)"):
        task.predict(model, [torch.zeros(1, 8, 8)])


def test_examples_are_the_pixels_as_they_were():
    from sklearn.datasets import load_digits

    shown = Digits().examples("test", 5)
    images = {tuple(i.flatten().astype(int)) for i in load_digits()["images"]}
    for example in shown:
        assert example["input"].shape == (8, 8, 1)
        assert tuple((example["input"].flatten() / 255 * 16).round().astype(int)) in images


# -- language ----------------------------------------------------------------------------------------------


def test_windows_tile_the_text_so_that_each_token_is_predicted_once(text):
    batch = text.sample("test", torch.arange(text.size("test")))
    targets = batch["targets"][batch["targets"] != IGNORE]
    assert torch.equal(targets, text.tokens["test"][1:])
    assert torch.equal(batch["ids"][:, 1:][:-1], batch["targets"][:, :-1][:-1])


def test_training_windows_start_anywhere_and_stay_in_the_text(text):
    size = text.size("train")
    starts = set()
    whole = text.tokenizer.decode(text.tokens["train"].tolist())
    for seed in range(20):
        batch = text.sample("train", torch.tensor([0, size - 1]), seed=seed, train=True)
        assert (batch["targets"] != IGNORE).all()
        assert torch.equal(batch["ids"][:, 1:], batch["targets"][:, :-1])
        starts.add(whole.find(text.tokenizer.decode(batch["ids"][0].tolist())))
    assert len(starts) > 10 and max(starts) < 64


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_bits_per_byte_are_those_of_the_whole_text(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("ANYFORMER_CACHE", str(tmp_path))
    (tmp_path / "own.txt").write_text(
        "\n\n".join(f"the {i} fox jumps — over {i * 7} dogs" for i in range(900)), "utf-8"
    )
    task = Text(tmp_path / "own.txt", tokenizer=tokenizer, length=50, vocab_size=300)
    vocab = task.model_options()["vocab_size"]
    table = torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(0))
    found = task.evaluate(Bigram(table), "test", batch_size=7)
    tokens = task.tokens["test"]
    nats = -table.log_softmax(-1)[tokens[:-1], tokens[1:]].sum()
    size = len(task.tokenizer.decode(tokens[1:].tolist()).encode())
    assert found["bits_per_byte"] == pytest.approx(float(nats) / math.log(2) / size, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(float(nats) / (len(tokens) - 1)), rel=1e-4)
    assert found["tokens"] == len(tokens) - 1


def test_a_language_model_continues_a_text_with_its_likeliest_tokens(text):
    table = torch.full((256, 256), -9.0)
    for here, there in zip("abc", "bca", strict=True):
        table[ord(here), ord(there)] = 9.0
    found = text.predict(Bigram(table), ["xa"], tokens=5)[0]
    assert found["continuation"] == "bcabc"
    assert found["next"][0]["token"] == "b" and found["next"][0]["probability"] > 0.99
    with pytest.raises(DataError, match="starts from at least one character"):
        text.predict(Bigram(table), [""])


def test_a_text_shorter_than_a_window_says_what_would_fit(tmp_path):
    (tmp_path / "short.txt").write_text("few words " * 20)
    with pytest.raises(DataError, match=r"the valid part of .*short\.txt has 16 tokens.*length=15 or less"):
        Text(tmp_path / "short.txt", length=64)
    with pytest.raises(OptionError, match="length is at least 2"):
        Text(length=1)


# -- translation -------------------------------------------------------------------------------------------


def test_a_batch_of_pairs_is_padded_and_marked(dates):
    batch = dates.sample("train", torch.arange(20))
    for row in range(20):
        source, target = dates.parts["train"][row]
        assert [k - MARKS for k in batch["source"][row].tolist() if k != PAD] == list(source.encode())
        assert batch["target"][row].tolist() == [START, *(k + MARKS for k in target.encode())]
        assert batch["labels"][row].tolist() == [*(k + MARKS for k in target.encode()), END]
    assert dates.count(batch) == 20 * 11


def test_exact_match_counts_what_the_model_writes_by_itself(dates):
    vocab = dates.model_options()["vocab_size"]
    perfect = dates.evaluate(Oracle(dates, vocab), "valid")
    assert perfect["exact_match"] == 1 and perfect["token_accuracy"] == 1
    failing = {source for source, _ in dates.parts["valid"][:250]}
    found = dates.evaluate(Oracle(dates, vocab, failing), "valid", batch_size=300)
    assert found["exact_match"] == pytest.approx(0.75)
    assert found["token_accuracy"] == pytest.approx(1 - 0.25 / 11)
    assert found["guesses"][999] == dates.parts["valid"][999][1]
    assert found["guesses"][0] != dates.parts["valid"][0][1]


def test_a_model_that_never_ends_is_stopped(dates):
    class Endless(nn.Module):
        def forward(self, source, target, source_segments=None, target_segments=None):
            return F.one_hot(torch.full_like(target, 70), 259).float()

    assert write(Endless(), torch.full((2, 4), 9), 6).shape == (2, 6)


def test_translation_predicts_texts(dates):
    model = Oracle(dates, 259)
    source, target = dates.parts["test"][0]
    assert dates.predict(model, [source]) == [{"input": source, "output": target}]
    assert dates.predict(model, []) == []
    with pytest.raises(DataError, match=r"a source has 1 to \d+ tokens"):
        dates.predict(model, ["x" * 100])


def test_pairs_of_a_file_with_byte_pairs(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYFORMER_CACHE", str(tmp_path))
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"number {i}\tNummer {i * 3}\n" for i in range(60)), "utf-8")
    task = Pairs(path, tokenizer="bpe", vocab_size=280)
    assert task.size("train") == 48 and 256 + MARKS < task.model_options()["vocab_size"] <= 280 + MARKS
    found = task.evaluate(Oracle(task, task.model_options()["vocab_size"]), "test")
    assert found["exact_match"] == 1


def test_dates_refuse_more_pairs_than_there_are():
    with pytest.raises(OptionError, match="pairs is 1 to 65000"):
        Dates(pairs=70_000)


@pytest.mark.parametrize("name", sorted(index()["tasks"]))
def test_a_task_suggests_a_model_and_states_what_it_has_to_beat(name):
    task = resolve(index()["tasks"][name]["target"])
    assert task.default_model in index()["variants"]


@pytest.mark.parametrize("name", ["digits", "text", "dates"])
def test_the_trivial_answer_is_measured_like_a_model(name):
    task = create_task(name)
    baseline = task.baseline("valid")
    torch.manual_seed(0)
    model = create_model(task.default_model, **task.model_options())
    untrained = task.evaluate(model, "valid")[task.metric]
    better = baseline.value - untrained if task.higher_is_better else untrained - baseline.value
    assert better > -0.15 and baseline.margin > 0


def test_token_frequencies_are_the_entropy_of_the_bytes():
    task = create_task("text")
    counts = torch.bincount(task.tokens["train"], minlength=256).double() + 1
    shares = counts / counts.sum()
    bits = -shares.log2()[task.tokens["valid"][1:]].mean()  # a byte is a token here
    assert task.baseline("valid").value == pytest.approx(float(bits), rel=1e-4)
