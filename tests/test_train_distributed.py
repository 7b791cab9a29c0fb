"""The same loop in two processes, on the CPU: copies (DDP) and cut-up weights (FSDP2) give what one process gives."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from anyformer.core.errors import OptionError
from anyformer.lab.train import TrainConfig, checkpoint, train
from anyformer.tasks.classification import Digits
from test_train import Plain, Ragged, Table, same, small, weights

CONFIG = TrainConfig(
    budget="12steps", batch_size=32, accumulate=2, checkpoint_every=5, log_every=4, evaluations=2, ema=0.9, mixup=0.3
)
TEXT = dataclasses.replace(CONFIG, mixup=0.0, batch_size=24, learning_rate=0.05)

TWO = """
    import dataclasses, json, os, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[2:]
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor
    from test_train import Digits, Plain, Ragged, Stop, Table, small, train
    from test_train_distributed import CONFIG, TEXT
    from anyformer.core.errors import AnyformerError
    from anyformer.lab.train import checkpoint
    from anyformer.lab.train.distributed import leave

    out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    dist.init_process_group("gloo")
    said = {}

    class Interrupted(Digits):
        calls = -1

        def loss(self, model, batch, **options):
            self.calls += 1
            if self.calls > 2 * 8:
                raise Stop
            return super().loss(model, batch, **options)

    for strategy in ("replicate", "shard"):
        config = dataclasses.replace(CONFIG, strategy=strategy)
        result = train(small(Plain), Digits(), config, out=out / strategy)
        said[strategy] = {
            "cut": isinstance(result.model.blocks[0].weight, DTensor),
            "accuracy": result.metrics["accuracy"],
            "losses": [line["loss"] for line in result.history if "loss" in line],
        }
        train(Table(), Ragged(length=32), dataclasses.replace(TEXT, strategy=strategy), out=out / f"{strategy}_text")
        try:
            train(small(Plain), Interrupted(), config, out=out / f"{strategy}_resumed")
        except Stop:
            said[strategy]["stopped"] = [p.name for p in checkpoint.checkpoints(out / f"{strategy}_resumed")]
        dist.barrier()
        if rank == 0:
            import shutil
            shutil.copytree(out / f"{strategy}_resumed", out / f"{strategy}_alone")
        dist.barrier()
        train(small(Plain), Digits(), config, out=out / f"{strategy}_resumed", resume=True)
        timed = train(small(Plain), Digits(), dataclasses.replace(config, budget="0.3s"))
        said[strategy]["timed"] = timed.steps

    original = checkpoint._write_tensors
    def full(folder, tensors, group):
        if group.rank == 1:
            raise OSError(28, "No space left on device")
    checkpoint._write_tensors = full
    try:
        train(small(Plain), Digits(), CONFIG, out=out / "full")
    except AnyformerError as error:
        said["full"] = str(error)
    (out / f"said{rank}.json").write_text(json.dumps(said))
    leave()
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes, started by torchrun, did all of the above, and what each of them said."""
    out = tmp_path_factory.mktemp("two")
    (out / "two.py").write_text(textwrap.dedent(TWO))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(out / "two.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    arguments = [*command, str(out), os.path.dirname(__file__), *sys.path[1:]]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    return out, [json.loads((out / f"said{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("strategy", ["replicate", "shard"])
def test_two_processes_give_what_one_gives(two, strategy):
    out, (first, second) = two
    assert first[strategy]["cut"] is (strategy == "shard")
    assert first[strategy]["losses"] == second[strategy]["losses"]
    one = train(small(Plain), Digits(), CONFIG)
    assert [line["loss"] for line in one.history if "loss" in line] == pytest.approx(
        first[strategy]["losses"], rel=1e-5
    )
    assert one.metrics["accuracy"] == pytest.approx(first[strategy]["accuracy"], abs=0.005)
    text = train(Table(), Ragged(length=32), TEXT)  # ranks and micro-batches with different numbers of targets
    for folder, single in ((strategy, one), (f"{strategy}_text", text)):
        both = load_file(out / folder / "model.safetensors")
        for name, tensor in single.model.state_dict().items():
            torch.testing.assert_close(both[name], tensor, atol=3e-6, rtol=1e-4)


@pytest.mark.parametrize("strategy", ["replicate", "shard"])
def test_two_processes_that_stopped_go_on_to_the_same_weights(two, strategy):
    out, (first, _) = two
    assert first[strategy]["stopped"] == ["step_000000005"]
    straight = load_file(out / strategy / "model.safetensors")
    assert same(load_file(out / f"{strategy}_resumed" / "model.safetensors"), straight)


def test_one_process_goes_on_with_what_two_have_cut_up(two):
    out, _ = two
    held = checkpoint.checkpoints(out / "shard_alone")[-1]
    assert len(list(held.glob("*.safetensors"))) == 2  # each process wrote its part
    alone = train(
        small(Plain), Digits(), dataclasses.replace(CONFIG, strategy="shard"), out=out / "shard_alone", resume=True
    )
    straight = load_file(out / "shard" / "model.safetensors")
    for name, tensor in weights(alone.model).items():
        torch.testing.assert_close(tensor, straight[name], atol=3e-6, rtol=1e-4)


def test_processes_stop_together(two):
    _, (first, second) = two
    for strategy in ("replicate", "shard"):
        assert first[strategy]["timed"] == second[strategy]["timed"] > 1


def test_what_goes_wrong_at_one_process_is_said_at_each(two):
    _, both = two
    for said in both:
        assert "step_000000005 cannot be written (No space left on device)" in said["full"]


def test_a_batch_that_does_not_divide_over_processes_says_so():
    from anyformer.lab.train.distributed import Group
    from anyformer.lab.train.feed import Feed

    with pytest.raises(OptionError, match=r"3 process\(es\) times 2 micro-batches: make batch_size a multiple of 6"):
        Feed(Digits(), CONFIG, Group(0, 3, torch.device("cpu")))


def test_the_shares_of_all_processes_are_the_batch():
    from anyformer.lab.train.distributed import Group
    from anyformer.lab.train.feed import Feed

    whole = Feed(Digits(), dataclasses.replace(CONFIG, accumulate=1), Group(0, 1, torch.device("cpu"))).make(40)[0]
    parts = [b for rank in (0, 1) for b in Feed(Digits(), CONFIG, Group(rank, 2, torch.device("cpu"))).make(40)]
    assert len(parts) == 4
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)
