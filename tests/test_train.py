"""The training loop in one process: budgets, schedule, resuming, checkpoints on full disks, and what it leaves."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anyformer.core.errors import AnyformerError, BudgetError, CheckpointError, FitError, MissingExtra, OptionError
from anyformer.data.transforms import Augment
from anyformer.lab.budget import Budget, parse_budget
from anyformer.lab.train import Diverged, TrainConfig, checkpoint, train
from anyformer.lab.train.fingerprint import fingerprint
from anyformer.lab.train.limit import Limit
from anyformer.lab.train.log import progress_bar, read
from anyformer.lab.train.optimizer import Average, averaged, make_optimizer, rate
from anyformer.tasks.classification import Digits
from anyformer.tasks.language import Text
from anyformer.tasks.task import IGNORE
from anyformer.tasks.translation import Dates


class Small(nn.Module):
    """An image model with what a checkpoint has to keep: dropout, a norm, a buffer that moves."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(64, 32), nn.Linear(32, 32)])
        self.norm = nn.BatchNorm1d(32)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.out(self.dropout(self.norm(x)))


class Plain(nn.Module):
    """An image model without anything random or counted over the batch."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(64, 24), nn.Linear(24, 24)])
        self.out = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for block in self.blocks:
            x = block(x).tanh()
        return self.out(x)


def small(kind: type[nn.Module] = Small, **options) -> nn.Module:
    torch.manual_seed(7)
    return kind(**options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


SHORT = TrainConfig(budget="40steps", batch_size=32, checkpoint_every=7, log_every=3, evaluations=2)


# -- budgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("60s", 60, "seconds"),
        ("5m", 300, "seconds"),
        ("1.5h", 5400, "seconds"),
        (" 2e14flop", 2e14, "flop"),
        ("500steps", 500, "steps"),
        ("1_000 steps", 1000, "steps"),
        ("0.5epochs", 0.5, "epochs"),
        ("10 Epochs", 10, "epochs"),
    ],
)
def test_budgets_are_read(text, amount, unit):
    assert parse_budget(text) == Budget(amount, unit)
    assert parse_budget(str(parse_budget(text))) == Budget(amount, unit)


@pytest.mark.parametrize(
    "text", ["0s", "-5steps", "0steps", "60", "s", "", "ten seconds", "5x", "1e999s", "2.5steps", "nan s"]
)
def test_budgets_that_no_run_can_keep_are_one_sentence(text):
    with pytest.raises(BudgetError, match="a budget"):
        parse_budget(text)
    with pytest.raises(BudgetError):
        TrainConfig(budget=text)


def test_a_share_of_a_budget_is_a_budget():
    assert parse_budget("10steps").scaled(0.01) == Budget(1, "steps")
    assert parse_budget("60s").scaled(0.1) == Budget(6, "seconds")


def test_every_budget_ends_where_it_says():
    assert Limit.of(parse_budget("3epochs"), 20, 1000).steps == 60
    assert Limit.of(parse_budget("1e6flop"), 20, 1000).steps == 1000
    with pytest.raises(BudgetError, match=r"ends before the first step, which takes 1e\+03flop"):
        Limit.of(parse_budget("10flop"), 20, 1000)
    result = train(small(), Digits(), dataclasses.replace(SHORT, budget="0.5s"))
    assert 0.5 <= result.seconds < 1.5 and result.steps > 5
    rates = [line["rate"] for line in result.history if "rate" in line]
    assert max(rates) > 5e-4 and rates[-1] < 1e-4  # the schedule follows the clock to its end


def test_operations_of_a_step_are_those_of_its_products():
    result = train(small(Plain), Digits(), dataclasses.replace(SHORT, budget="1steps"))
    products = 3 * 2 * 32 * (64 * 24 + 24 * 24 + 24 * 10)  # forward and twice that backward, 2 per multiply-add
    assert products <= result.step_flop < 1.3 * products
    halves = train(small(Plain), Digits(), dataclasses.replace(SHORT, budget="1steps", accumulate=2))
    assert halves.step_flop == pytest.approx(result.step_flop, rel=0.01)
    by_operations = dataclasses.replace(SHORT, budget=f"{5.5 * result.step_flop:.0f}flop")
    assert train(small(Plain), Digits(), by_operations).steps == 5


# -- configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0), ("learning_rate", -1.0), ("learning_rate", math.nan), ("warmup", 2.0), ("clip", 0.0),
        ("ema", 1.0), ("label_smoothing", -0.1), ("precision", "int4"), ("strategy", "zero"), ("accumulate", 0),
        ("weight_decay", math.nan), ("checkpoint_every", 0),
    ],
)  # fmt: skip
def test_options_outside_their_limits_are_named(option, value):
    with pytest.raises(OptionError, match=f"^{option} "):
        TrainConfig(**{option: value})


def test_configurations_that_exclude_each_other_or_do_not_divide():
    with pytest.raises(OptionError, match="exclude each other"):
        TrainConfig(mixup=0.2, cutmix=1.0)
    for wrong, message in (
        ({"batch_size": 10, "accumulate": 3}, "make batch_size a multiple of 3"),
        ({"batch_size": 5000}, "the training part has 1169 samples"),
        ({"batch_size": 6, "accumulate": 2, "mixup": 0.2}, "a micro-batch has an even size"),
        ({"device": "cuda:77"}, "there is no device 'cuda:77' here"),
        ({"device": "abacus"}, "there is no device 'abacus' here"),
    ):
        with pytest.raises(OptionError, match=message):
            train(small(), Digits(), dataclasses.replace(SHORT, **wrong))
    with pytest.raises(OptionError, match="the task 'text' has none"):
        train(Table(), Text(length=32), dataclasses.replace(SHORT, mixup=0.2))


# -- optimizer ---------------------------------------------------------------------------------------------


def test_the_rate_rises_linearly_and_falls_as_a_cosine():
    config = TrainConfig(warmup=0.2, final_rate=0.1)
    assert [rate(p, config) for p in (0.0, 0.1, 0.2)] == pytest.approx([0, 0.5, 1])
    assert rate(0.6, config) == pytest.approx(0.1 + 0.9 / 2)
    assert rate(1.0, config) == pytest.approx(0.1) and rate(1.2, config) == pytest.approx(0.1)
    assert rate(0.0, TrainConfig(warmup=0)) == pytest.approx(1)


def test_only_matrices_decay():
    model = small()
    groups = make_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    for name, p in model.named_parameters():
        assert decay[id(p)] == (0.3 if name.endswith("weight") and "norm" not in name else 0.0)


def test_steps_are_those_of_torch_adamw_written_out():
    """The loop against the shortest loop that does the same, in full batches of a fixed order."""
    task, config = Digits(Augment(crop=1)), dataclasses.replace(SHORT, budget="6steps", clip=0.5)
    result = train(small(Plain), task, config)
    from anyformer.data.seeds import combine, permutation

    model = small(Plain)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
    )
    order = permutation(1169, combine(0, 0, 0))
    for step in range(6):
        batch = task.sample("train", order[step * 32 : step * 32 + 32], seed=combine(0, 1, 0), train=True)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rate((step + 0.5) / 6, config)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch["images"]), batch["labels"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(result.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def test_the_average_is_the_recursion_and_is_what_a_run_returns():
    model = small()
    average = Average(model, 0.9)
    expected = weights(model)
    for step in range(1, 4):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step)
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {
            n: decay * expected[n] + (1 - decay) * t if t.is_floating_point() else t for n, t in weights(model).items()
        }
    now = weights(model)
    with averaged(model, average):
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name])
    assert same(weights(model), now)
    first = train(small(), Digits(), dataclasses.replace(SHORT, ema=0.99))
    second = train(small(), Digits(), SHORT)
    assert not same(weights(first.model), weights(second.model))
    assert first.metrics["loss"] == pytest.approx(Digits().evaluate(first.model)["loss"])


class Table(nn.Module):
    """The smallest language model."""

    def __init__(self, vocab: int = 256):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(vocab, vocab))

    def forward(self, ids: Tensor, segments=None) -> Tensor:
        return self.table[ids]


class Ragged(Text):
    """A text of whose windows one half is half ignored: micro-batches then differ in their targets."""

    def sample(self, split, indices, *, seed=0, train=False):
        batch = super().sample(split, indices, seed=seed, train=train)
        places = torch.arange(self.length) >= self.length // 4
        return {**batch, "targets": batch["targets"].masked_fill(places & (indices % 3 == 0)[:, None], IGNORE)}


def test_micro_batches_give_the_gradient_of_the_whole_batch():
    for model, task, mixup in ((lambda: small(Plain), Digits(Augment(crop=1)), 0.4), (Table, Ragged(length=32), 0.0)):
        config = dataclasses.replace(SHORT, budget="5steps", batch_size=24, mixup=mixup, clip=None, label_smoothing=0.1)
        once = train(model(), task, config)
        cut = train(model(), task, dataclasses.replace(config, accumulate=4))
        for name, tensor in once.model.state_dict().items():
            torch.testing.assert_close(cut.model.state_dict()[name], tensor, atol=2e-6, rtol=1e-4)
        losses = [[line["loss"] for line in r.history if "loss" in line] for r in (once, cut)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# -- learning ----------------------------------------------------------------------------------------------


def test_digits_are_learned_and_the_history_tells_of_it(tmp_path):
    config = TrainConfig(budget="12epochs", batch_size=32, learning_rate=3e-3, evaluations=4, label_smoothing=0.05)
    result = train(small(), Digits(), config, out=tmp_path)
    assert Digits().evaluate(result.model, "test")["accuracy"] > 0.9
    assert result.steps == 12 * 36 and result.samples == result.steps * 32
    measured = [line for line in result.history if "valid" in line]
    assert [line["step"] for line in measured] == [108, 216, 324, 432]
    assert measured[-1]["valid"]["accuracy"] == result.metrics["accuracy"] > measured[0]["valid"]["accuracy"]
    assert read(tmp_path / "log.jsonl") == result.history
    assert same(load_file(tmp_path / "model.safetensors"), weights(result.model))
    left = json.loads((tmp_path / "result.json").read_text())
    assert left["metrics"]["accuracy"] == result.metrics["accuracy"]
    assert left["config"]["learning_rate"] == 3e-3 and left["task"]["task"] == "digits"
    assert {"commit", "versions", "machine", "time"} == left["fingerprint"].keys()


def test_one_call_trains_any_task_and_bfloat16_and_mixing():
    digits = train(small(), Digits(), dataclasses.replace(SHORT, precision="bfloat16", cutmix=1.0))
    assert digits.model.out.weight.dtype == torch.float32 and digits.metrics["accuracy"] > 0.2
    text = Text(length=64)
    result = train(Table(), text, dataclasses.replace(SHORT, learning_rate=0.1, budget="60steps"))
    assert result.metrics["bits_per_byte"] < 5.5 < 8 == round(text.evaluate(Table())["bits_per_byte"], 3)

    class Copy(nn.Module):
        """Reads nothing; learns which character stands where."""

        def __init__(self):
            super().__init__()
            self.out = nn.Parameter(torch.zeros(32, 259))

        def forward(self, source, target, source_segments=None, target_segments=None):
            return self.out[: target.shape[1]].expand(len(source), -1, -1)

    dates = train(Copy(), Dates(pairs=300), dataclasses.replace(SHORT, learning_rate=0.1))
    assert dates.metrics["token_accuracy"] > 0.4 and dates.metrics["exact_match"] < 0.1


def test_a_model_by_name_is_built_for_the_task_and_what_it_leaves_is_read_back(tmp_path):
    from anyformer import from_pretrained

    config = dataclasses.replace(SHORT, budget="60steps", learning_rate=1e-3)
    result = train("vit_micro", "digits", config, out=tmp_path)
    read_back = from_pretrained(tmp_path)
    assert same(weights(read_back), weights(result.model)) and read_back.variant == "vit_micro"
    assert Digits().evaluate(read_back)["loss"] == pytest.approx(result.metrics["loss"])
    assert (tmp_path / "anyformer.yaml").read_text().startswith("anyformer: 1\nspec:")
    assert result.metrics["loss"] < 2.2  # it learns: a uniform guess costs 2.30
    with pytest.raises(CheckpointError, match=r"another spec .*resume it with the same"):
        train("mixer_micro", "digits", config, out=tmp_path, resume=True)
    with pytest.raises(FitError, match="a model for the task 'text' takes vocab_size, max_length"):
        train("vit_micro", Text(length=32), config)


def test_seeds_decide_everything_and_the_callers_random_state_is_kept():
    first, second = (train(small(), Digits(), SHORT) for _ in range(2))
    assert same(weights(first.model), weights(second.model))
    torch.manual_seed(5)
    other = train(small(), Digits(), dataclasses.replace(SHORT, seed=1))  # `small` seeds with 7
    drawn = torch.rand(3)
    torch.manual_seed(7)
    small()
    expected_model = small()
    assert torch.equal(drawn, torch.rand(3)) and isinstance(expected_model, Small)
    assert not same(weights(first.model), weights(other.model))


def test_batches_made_in_the_background_are_the_same():
    ahead = Digits()
    ahead.ahead = 3
    assert same(weights(train(small(), ahead, SHORT).model), weights(train(small(), Digits(), SHORT).model))


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path):
    class Poisoned(Digits):
        def loss(self, model, batch, *, label_smoothing=0.0):
            self.calls = getattr(self, "calls", -1) + 1  # the first call counts operations
            loss = super().loss(model, batch, label_smoothing=label_smoothing)
            return loss * math.nan if self.calls == 19 else loss

    with pytest.raises(Diverged, match=r"^step 19: the loss is not a number any more \(loss nan.*learning rate"):
        train(small(), Poisoned(), SHORT, out=tmp_path)
    kept = checkpoint.checkpoints(tmp_path)
    assert [p.name for p in kept] == ["step_000000007", "step_000000014"]
    assert not (tmp_path / "result.json").exists()


# -- going on ----------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [3, 20, 34])
def test_a_run_that_stopped_goes_on_to_the_same_weights(tmp_path, at, monkeypatch):
    config = dataclasses.replace(SHORT, ema=0.95, mixup=0.2)
    shifted = Augment(crop=1)
    straight = train(small(), Digits(shifted), config)

    class Interrupted(Digits):
        def loss(self, model, batch, *, label_smoothing=0.0):
            self.calls = getattr(self, "calls", -1) + 1
            if self.calls > at:
                raise Stop
            return super().loss(model, batch, label_smoothing=label_smoothing)

    with pytest.raises(Stop):
        train(small(), Interrupted(shifted), config, out=tmp_path)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 35, "lo')  # as a kill leaves it
    resumed = train(small(), Digits(shifted), config, out=tmp_path, resume=True)
    assert same(weights(straight.model), weights(resumed.model))
    steps = [line["step"] for line in resumed.history if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    expected = [line["valid"] for line in straight.history if "valid" in line]
    assert [line["valid"] for line in resumed.history if "valid" in line] == expected


def test_a_run_that_ended_is_read_and_not_trained_again(tmp_path):
    first = train(small(), Digits(), SHORT, out=tmp_path)
    torch.manual_seed(99)
    again = train(Small(), Digits(), SHORT, out=tmp_path, resume=True)
    assert same(weights(first.model), weights(again.model))
    assert again.history == first.history and again.steps == 40 and again.seconds == first.seconds


def test_a_folder_that_holds_another_run_is_left_alone(tmp_path):
    train(small(), Digits(), SHORT, out=tmp_path)
    with pytest.raises(CheckpointError, match="holds a run already: resume=True"):
        train(small(), Digits(), SHORT, out=tmp_path)
    with pytest.raises(CheckpointError, match=r"another config \(learning_rate was 0.001, now 0.01\)"):
        train(small(), Digits(), dataclasses.replace(SHORT, learning_rate=0.01), out=tmp_path, resume=True)
    other = Digits()
    other.name = "numerals"
    with pytest.raises(CheckpointError, match=r"another task \(task was 'digits', now 'numerals'"):
        train(small(), other, SHORT, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"is of another model: it holds no model\.blocks\.0"):
        train(small(Plain), Digits(), SHORT, out=tmp_path, resume=True)
    wide = small()
    wide.out = nn.Linear(32, 11)
    with pytest.raises(CheckpointError, match=r"model\.out\.weight is \(10, 32\) in it and \(11, 32\) here"):
        train(wide, Digits(), SHORT, out=tmp_path, resume=True)
    free = dataclasses.replace(SHORT, log_every=1, evaluations=7)
    assert train(small(), Digits(), free, out=tmp_path, resume=True).steps == 40


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(small(), Digits(), SHORT, out=tmp_path)
    last = checkpoint.checkpoints(tmp_path)[-1]
    file = next(last.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"step_000000040 cannot be read .* remove it to go on"):
        train(small(), Digits(), SHORT, out=tmp_path, resume=True)
    (last / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json cannot be read"):
        train(small(), Digits(), SHORT, out=tmp_path, resume=True)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AnyformerError, match=r"the output folder .* cannot be written .*: choose another"):
        train(small(), Digits(), SHORT, out=tmp_path / "file" / "below")
    with pytest.raises(CheckpointError, match="name that folder"):
        train(small(), Digits(), SHORT, resume=True)


@pytest.mark.parametrize("place", ["tensors", "facts", "sync", "rename"])
def test_a_disk_that_fills_up_in_a_checkpoint_leaves_the_one_before(tmp_path, monkeypatch, place):
    straight = train(small(), Digits(), SHORT)
    full = OSError(errno.ENOSPC, "No space left on device")
    calls = 0

    def failing(original):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls >= (4 if place == "facts" else 3):  # the log begins with a write of text
                raise full
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        if place == "tensors":
            patch.setattr(checkpoint, "_write_tensors", failing(checkpoint._write_tensors))
        elif place == "facts":
            patch.setattr(checkpoint.Path, "write_text", failing(checkpoint.Path.write_text))
        elif place == "sync":
            patch.setattr(checkpoint.os, "fsync", failing(os.fsync))
        else:
            patch.setattr(checkpoint.Path, "rename", failing(checkpoint.Path.rename))
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\).*resume=True"):
            train(small(), Digits(), SHORT, out=tmp_path)
    assert not list((tmp_path / "checkpoints").glob(".*"))
    if place != "sync":
        assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step_000000007", "step_000000014"]
    resumed = train(small(), Digits(), SHORT, out=tmp_path, resume=True)
    assert same(weights(straight.model), weights(resumed.model))


def test_a_really_full_disk_is_one_sentence(tmp_path):
    """The writer itself runs into the limit: this process may for a while write files of at most 3,000 bytes."""
    straight = train(small(), Digits(), SHORT, out=tmp_path / "straight")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step_000000007 cannot be written \(File too large\)"):
            train(small(), Digits(), SHORT, out=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    resumed = train(small(), Digits(), SHORT, out=tmp_path / "run", resume=True)
    assert same(weights(straight.model), weights(resumed.model))


KILLED = """
    import sys
    sys.path[:0] = sys.argv[2:]
    from test_train import LONG, Digits, small, train
    train(small(), Digits(), LONG, out=sys.argv[1], resume=True)
"""

LONG = dataclasses.replace(SHORT, budget="200steps", ema=0.99, mixup=0.2, checkpoint_every=5)


def _last_step(out) -> int:
    found = checkpoint.checkpoints(out)
    return int(found[-1].name.removeprefix("step_")) if found else 0


def test_kill_nine_at_any_moment_changes_nothing(tmp_path):
    """The process is killed twice, wherever it happens to be; it writes checkpoints nearly all the time."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(out), os.path.dirname(__file__), *sys.path[1:]]
    seen = 0
    for more in (3, 12):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 200
        while _last_step(out) < seen + 5 * more:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        seen = _last_step(out)
        assert seen < 200  # it was under way
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: sums in another order have other last bits
    try:
        resumed = train(small(), Digits(), LONG, out=out, resume=True)
        straight = train(small(), Digits(), LONG, out=tmp_path / "straight")
    finally:
        torch.set_num_threads(threads)
    assert same(weights(resumed.model), weights(straight.model))
    first, second = (read(folder / "log.jsonl") for folder in (out, tmp_path / "straight"))
    assert [(line["step"], line.get("loss"), line.get("valid")) for line in first] == [
        (line["step"], line.get("loss"), line.get("valid")) for line in second
    ]


# -- what is shown -----------------------------------------------------------------------------------------


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown, silent = Terminal(), io.StringIO()
    for stream in (shown, silent):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar("small on digits", wanted=True) as bar:
            bar.show(0.5, "loss 1.2")
    assert "small on digits" in shown.getvalue() and silent.getvalue() == ""
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    train(small(), Digits(), dataclasses.replace(SHORT, budget="2steps"), progress=False)
    assert quiet.getvalue() == ""


def test_tensorboard_files_are_written_where_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    config = dataclasses.replace(SHORT, budget="6steps", tensorboard=True)
    train(small(), Digits(), config, out=tmp_path / "a")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    events.Reload()
    assert {"loss", "rate", "valid/accuracy"} <= set(events.Tags()["scalars"])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'anyformer\[logging\]'"):
        train(small(), Digits(), config, out=tmp_path / "b")


def test_the_fingerprint_says_where_and_when():
    found = fingerprint()
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["cores"] >= 1 and found["machine"]["threads"] == torch.get_num_threads()
    assert found["time"].endswith("+00:00")
    json.dumps(found)


def test_what_is_configured_is_readable_without_torch():
    code = (
        "import sys; import anyformer.lab.train, anyformer.lab.budget, anyformer.tasks; print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
