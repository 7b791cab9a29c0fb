"""BabyHGRN: its recurrence, minimal pairs, and distillation at a model's own size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.core.state import nbytes
from anyformer.data.agreement import ADJECTIVES, pairs, sentences
from anyformer.data.minimal_pairs import read_pairs
from anyformer.kernels.linear_recurrence import linear_recurrence
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.attention.linear.hgrn2 import HGRN2
from anyformer.layers.recurrence.bounded import forgotten, log_forget
from anyformer.methods.distillation.language import LanguageDistillation, distillation_loss
from anyformer.tasks.minimal_pairs import MinimalPairs, log_likelihood
from parts import stirred


def test_forget_gates_stay_above_their_bound_and_finite():
    x = torch.tensor([-1e4, -200.0, -3.0, 0.0, 3.0, 200.0], requires_grad=True)
    for bound in (0.0, 0.3, 0.9):
        lower = torch.tensor(bound)
        gate = log_forget(x, lower)
        assert gate.isfinite().all() and (gate.exp() >= bound - 1e-6).all() and (gate <= 0).all()
        torch.testing.assert_close(gate.exp() + forgotten(x, lower), torch.ones(6))
        assert torch.autograd.grad(gate.sum(), x)[0].isfinite().all()


def test_without_a_bound_it_is_gated_linear_attention_with_tied_keys():
    torch.manual_seed(0)
    layer, x = stirred(HGRN2(16, heads=2, expand=4, norm=None)).eval(), torch.randn(2, 40, 16)
    q, f, v = layer.qkv(x).split(layer.widths, -1)
    q, f, v = layer.split(q, 4), layer.split(f, 4), layer.split(v, 8)
    decay = torch.nn.functional.logsigmoid(f)
    y, _ = linear_recurrence(torch.nn.functional.silu(q) / 2, 1 - decay.exp(), v, log_decay=decay)
    torch.testing.assert_close(layer(x), layer.out(y.transpose(1, 2).flatten(2)), rtol=1e-5, atol=1e-5)


def test_steps_equal_the_parallel_form_in_constant_memory():
    torch.manual_seed(0)
    layer, x = stirred(HGRN2(16, heads=2, expand=4, lower_bound=0.2)).eval(), torch.randn(1, 300, 16)
    state, outputs = layer.init_state(1, like=x), []
    size = nbytes(state)
    with torch.no_grad():
        for token in x.unbind(1):
            y, state = layer.step(token, state)
            outputs.append(y)
            assert nbytes(state) == size
        torch.testing.assert_close(torch.stack(outputs, 1), layer(x), rtol=1e-4, atol=1e-4)


def test_published_sizes():
    with torch.device("meta"):
        small, large = create_model("baby_hgrn_360m"), create_model("baby_hgrn_1.2b")
    assert abs(small.num_parameters() / 360e6 - 1) < 0.05
    assert abs(large.num_parameters() / 1.0e9 - 1) < 0.05  # "1.0B" in section 3.5, "1.2B" in table 7


# -- minimal pairs --------------------------------------------------------------------------------------------


def test_pairs_differ_in_the_number_of_one_verb():
    for good, bad in pairs(300, seed=3):
        differ = [(a, b) for a, b in zip(good.split(), bad.split(), strict=True) if a != b]
        assert len(differ) == 1
        (a, b) = differ[0]
        assert a == b + "s" or b == a + "s"
        subject = good.split()[2 if good.split()[1] in ADJECTIVES else 1]
        assert subject.endswith("s") != a.endswith("s")


def test_sentences_follow_from_the_seed_and_keep_away_from_the_pairs():
    held = pairs(200, seed=1)
    first = sentences(1000, 5, without=held)
    assert first == sentences(1000, 5, without=held) != sentences(1000, 6, without=held)
    assert not {good for good, _ in held} & set(first) and len(set(first)) == len(first)
    assert 1000 <= sum(len(s.split()) for s in first) < 1020
    with pytest.raises(OptionError, match="one sentence or more"):
        sentences(0)


def test_scores_are_sums_of_log_probabilities_whatever_the_padding():
    task = MinimalPairs(words=300)
    model = create_model("hgrn2_micro", **task.model_options()).eval()
    texts = [pair[0] for pair in task.pairs["valid"][:3]]
    for text, score in zip(texts, task.scores(model, texts), strict=True):
        ids = torch.tensor([[0, *task.tokenizer.encode(text)]])
        with torch.no_grad():
            logs = model(ids[:, :-1]).log_softmax(-1)
        expected = sum(float(logs[0, i, t]) for i, t in enumerate(ids[0, 1:].tolist()))
        assert abs(float(score) - expected) < 1e-3
    logits, targets = torch.randn(2, 4, 7), torch.tensor([[1, 2, -100, -100], [3, 3, 3, 3]])
    assert log_likelihood(logits, targets)[0] == pytest.approx(
        float(logits[0, :2].log_softmax(-1)[range(2), [1, 2]].sum()), rel=1e-5
    )


def test_the_baseline_knows_nothing_of_agreement():
    task = MinimalPairs(words=2000)
    assert 0.4 < task.baseline("test").value < 0.6
    told = task.predict(
        create_model("hgrn2_micro", **task.model_options()), [task.pairs["test"][0], "the author waits"]
    )
    assert told[0]["preferred"] in task.pairs["test"][0] and told[1]["log_probability"] < 0


def folder(at: Path, lines: list[str]) -> Path:
    (at / "train.txt").write_text("the dogs bark\nthe dog barks\nthe cat sleeps\n")
    (at / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return at


def entry(good: str, bad: str) -> str:
    return json.dumps({"sentence_good": good, "sentence_bad": bad, "UID": "agreement"})


def test_files_as_blimp_has_them(tmp_path: Path):
    at = folder(tmp_path, [entry("the dogs bark", "the dogs barks"), "", entry("the cat sleeps", "the cat sleep")])
    assert read_pairs(at) == [("the dogs bark", "the dogs barks"), ("the cat sleeps", "the cat sleep")]
    task = MinimalPairs(at)
    assert task.size("train") == 2 and task.model_options() == {"vocab_size": 256, "max_length": 14}
    assert task.evaluate(create_model("hgrn2_micro", **task.model_options()), "test")["pairs"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 2, is no pair"),
        ('{"sentence_good": "a"}', "line 2, is no pair"),
        ('{"sentence_good": "a", "sentence_bad": "a"}', "two different texts"),
    ],
)
def test_lines_that_are_no_pairs(tmp_path: Path, line: str, said: str):
    at = folder(tmp_path, [entry("the dogs bark", "the dogs barks"), line])
    with pytest.raises(DataError, match=said):
        MinimalPairs(at)


def test_folders_without_what_is_needed(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no \.jsonl file"):
        MinimalPairs(tmp_path)
    folder(tmp_path, [entry("a b", "a c"), entry("d e", "d f")])
    (tmp_path / "train.txt").write_text("one\n")
    with pytest.raises(DataError, match="sentences, one a line"):
        MinimalPairs(tmp_path)
    with pytest.raises(OptionError, match="does not fit into length=3"):
        MinimalPairs(words=100, length=3)


# -- distillation ---------------------------------------------------------------------------------------------


def test_distillation_loss_is_a_mixture_of_both():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    targets = torch.randint(0, 7, (2, 5))
    targets[1, 3:] = -100
    kept = targets != -100
    own = torch.nn.functional.cross_entropy(student[kept], targets[kept])
    p, q = teacher[kept].softmax(-1), student[kept].softmax(-1)
    apart = (p * (p / q).log()).sum(-1).mean()
    found = distillation_loss(student, teacher, targets, weight=0.3)
    torch.testing.assert_close(found, 0.7 * own + 0.3 * apart)
    torch.testing.assert_close(distillation_loss(student, teacher, targets, weight=0.0), own)
    assert float(distillation_loss(teacher, teacher, targets, weight=1.0, temperature=2.0)) == pytest.approx(
        0, abs=1e-6
    )


def test_teacher_and_student_of_different_vocabularies_are_refused_before_training():
    task = MinimalPairs(words=300)
    with pytest.raises(ValueError, match="a teacher of its own vocabulary: the task 'minimal_pairs' has"):
        LanguageDistillation(task, create_model("hgrn2_micro", vocab_size=50))
    teacher = create_model("hgrn2_micro", **task.model_options())
    for options in ({"weight": 1.5}, {"temperature": 0.0}):
        with pytest.raises(OptionError, match="weight from 0 to 1"):
            LanguageDistillation(task, teacher, **options)


def test_a_student_trains_and_its_teacher_does_not():
    task = MinimalPairs(words=300)
    torch.manual_seed(0)
    teacher, student = (create_model("hgrn2_micro", **task.model_options()) for _ in range(2))
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    wrapped = LanguageDistillation(task, teacher, weight=1.0)
    batch = wrapped.sample("train", torch.arange(16))
    start = float(wrapped.loss(student, batch).detach())
    train(
        student, wrapped, TrainConfig(budget="30steps", batch_size=16, learning_rate=3e-3, device="cpu"), progress=False
    )
    assert float(wrapped.loss(student, batch).detach()) < 0.5 * start
    assert all(torch.equal(t, before[name]) for name, t in teacher.state_dict().items())
    assert wrapped.facts()["distillation"] == {"weight": 1.0, "temperature": 1.0}
    with pytest.raises(OptionError, match="label_smoothing"):
        wrapped.loss(student, batch, label_smoothing=0.1)
