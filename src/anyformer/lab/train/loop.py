"""The training loop: one, for one process or many, on torch's own engine.

Read `train` from top to bottom; everything that it calls stands below it in the order of its use, or in the files
beside this one. Nothing here keeps a random state: the order of the data, the augmentation and dropout follow from
(seed, epoch, step), so that a run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anyformer.core.errors import FitError, OptionError
from anyformer.core.spec import Spec
from anyformer.lab.budget import parse_budget
from anyformer.lab.profile.operations import operations
from anyformer.lab.train import checkpoint
from anyformer.lab.train.config import TrainConfig
from anyformer.lab.train.distributed import Group, joined, spread
from anyformer.lab.train.feed import Feed
from anyformer.lab.train.fingerprint import fingerprint
from anyformer.lab.train.keeping import leave, start, state_tensors
from anyformer.lab.train.limit import Limit
from anyformer.lab.train.log import Log, progress_bar
from anyformer.lab.train.optimizer import Average, averaged, make_optimizer, rate
from anyformer.lab.train.stepper import Stepper, autocast
from anyformer.tasks import create_task
from anyformer.tasks.task import Task, to_device
from anyformer.weights.checkpoint import spec_card


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with.

    Attributes:
        model: trained in place; with the averaged weights where an average was asked for.
        metrics: the task's measurement of the validation part at the end.
        history: lines of the log: "step", and "loss", "rate", ... or "valid" (a measurement).
        steps: optimizer steps. samples: of training, repetitions counted.
        seconds: of training (batches and steps); measuring and checkpoints are not in it.
        parameters: of the model.
        step_flop: floating-point operations of one optimizer step: 2 per multiply-add, 1 per element of all other
            arithmetic, and the backward pass counted as twice the forward pass.
        config, task: what was run, as plain values. fingerprint: where and when.
    """

    model: nn.Module
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    steps: int
    samples: int
    seconds: float
    parameters: int
    step_flop: int
    config: TrainConfig
    task: dict[str, Any]
    fingerprint: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All but the model and the history, as plain values."""
        kept = ("metrics", "steps", "samples", "seconds", "parameters", "step_flop", "task", "fingerprint")
        return {**{name: getattr(self, name) for name in kept}, "config": self.config.to_dict()}


def train(
    model: nn.Module | Spec | str,
    task: Task | str,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a model on a task, within a budget.

    The same call runs on a CPU or a GPU, and on many where `torchrun` starts it. With `out`, the folder gets
    `log.jsonl`, `checkpoints/`, and at the end `model.safetensors`, `anyformer.yaml` and `result.json`.

    Args:
        model: a module, or the name or Spec of a model, which is then built for the task from `config.seed`.
        task: a task, or its name.
        config: how; `TrainConfig()` where not given.
        out: folder for what the run leaves; None leaves nothing.
        resume: go on from the last checkpoint in `out`; a run that never reached one starts anew.
        progress: show a bar where standard error is a terminal.

    Raises:
        Diverged: the loss or the gradient is not a number; the message says at which step and what to try.
        CheckpointError: `out` holds a run and `resume` is not set, or one of another configuration or model.
        AnyformerError: `out` cannot be written; a batch does not divide; the task does not fit.
    """
    config = config or TrainConfig()
    task = create_task(task)
    folder = None if out is None else Path(out)
    with joined(config.device) as group, own_randomness(group.device):
        torch.manual_seed(config.seed)
        module = make_model(model, task).to(group.device)
        feed = Feed(task, config, group)
        step_flop = count_step_flop(module, task, feed)
        limit = Limit.of(parse_budget(config.budget), feed.epoch_steps, step_flop)
        wrapped = spread(module, group, config.strategy)
        optimizer = make_optimizer(module, config)
        average = Average(module, config.ema) if config.ema is not None else None
        facts = {"config": config.binding(), "task": task.facts(), "spec": spec_card(module)}
        step, seconds = start(folder, facts, resume, module, optimizer, average, group)
        stepper = Stepper(wrapped, task, optimizer, config, group)
        title = f"{getattr(module, 'variant', None) or type(module).__name__} on {task.name}"
        with (
            Log(folder if group.leads else None, step, config.tensorboard) as log,
            progress_bar(title, progress and group.leads) as bar,
            feed,
        ):
            done = limit.done(step, seconds)
            while done < 1:
                began = time.perf_counter()
                stepper.take(feed.get(step), step, rate(limit.done(step + 0.5, seconds), config))
                step += 1
                if average is not None:
                    average.update(module, step)
                line = stepper.flush(step) if step % config.log_every == 0 else None
                seconds += time.perf_counter() - began
                if limit.timed:
                    seconds = group.lead(seconds)  # all stop at the same step
                before, done = done, limit.done(step, seconds)

                measure = done < 1 and math.floor(done * config.evaluations) > math.floor(before * config.evaluations)
                keep = step % config.checkpoint_every == 0 or done >= 1
                if measure or keep:
                    line = line or stepper.flush(step)  # what is measured and kept is known to be a number
                if line is not None:
                    speed = step * config.batch_size / seconds
                    epoch = step / feed.epoch_steps
                    log.write({"step": step, "epoch": epoch, **line, "seconds": seconds, "samples_per_second": speed})
                    bar.show(done, f"loss {line['loss']:.4g}, rate {line['rate']:.2g}, {speed:.0f} samples/s")
                if measure:
                    with averaged(module, average):
                        log.measured(step, seconds, measured(module, task, config, group))
                if keep and folder is not None:
                    tensors = state_tensors(module, optimizer, average)
                    checkpoint.save(folder, tensors, {**facts, "step": step, "seconds": seconds}, group)

            if average is not None:
                average.exchange(module)
            metrics = measured(module, task, config, group)
            log.measured(step, seconds, metrics)
        result = TrainResult(
            model=module,
            metrics=metrics,
            history=group.lead(log.history),
            steps=step,
            samples=step * config.batch_size,
            seconds=seconds,
            parameters=sum(p.numel() for p in module.parameters()),
            step_flop=step_flop,
            config=config,
            task=task.facts(),
            fingerprint=fingerprint(),
        )
        if folder is not None:
            leave(folder, result, facts["spec"], group)
        return result


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Inside, torch's random state is ours to seed; the caller's is as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def make_model(model: nn.Module | Spec | str, task: Task) -> nn.Module:
    """The module itself, or the model of this name or Spec with the options that the task asks for."""
    if isinstance(model, nn.Module):
        return model
    from anyformer.models import create_model

    options = task.model_options()
    try:
        return create_model(model, **options)
    except OptionError as error:
        raise FitError(f"a model for the task {task.name!r} takes {', '.join(options)}: {error}") from error


def count_step_flop(module: nn.Module, task: Task, feed: Feed) -> int:
    """Floating-point operations of one optimizer step, over all processes: see `TrainResult.step_flop`."""
    batch = to_device(feed.make(0)[0], feed.group.device)
    was_training = module.training
    module.eval()
    counted = operations(task.loss, module, batch)
    module.train(was_training)
    return 3 * feed.pieces * (2 * counted.multiply_adds + counted.other)


def measured(module: nn.Module, task: Task, config: TrainConfig, group: Group) -> dict[str, Any]:
    """The task's measurement of the validation part. Every process measures all of it."""
    with autocast(config, group.device):
        return task.evaluate(module, "valid")
