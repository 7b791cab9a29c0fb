"""The training loop: one, for one process or many, on torch's own engine.

Read `train` from top to bottom; everything that it calls stands below it in the order of its use, or in the files
beside this one. Nothing here keeps a random state: the order of the data, the augmentation and dropout follow from
(seed, epoch, step), so that a run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import AnyformerError, BudgetError, CheckpointError, FitError, OptionError
from anyformer.core.penalty import take_penalties
from anyformer.core.spec import Spec
from anyformer.data.seeds import combine, permutation
from anyformer.lab.budget import Budget, parse_budget
from anyformer.lab.profile.operations import operations
from anyformer.lab.train import checkpoint
from anyformer.lab.train.config import TrainConfig
from anyformer.lab.train.distributed import Group, gathering, joined, spread, whole
from anyformer.lab.train.fingerprint import fingerprint
from anyformer.lab.train.log import Log, progress_bar
from anyformer.lab.train.optimizer import Average, averaged, make_optimizer, rate
from anyformer.tasks import create_task
from anyformer.tasks.task import Batch, Task, to_device
from anyformer.weights.checkpoint import SPEC, WEIGHTS, spec_card

ORDER, AUGMENT, DROPOUT = range(3)
"""What a seed is for: each use has random numbers of its own."""


class Diverged(AnyformerError):
    """The loss or the gradient stopped being a number."""


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


class Feed:
    """This process's share of every batch, made from (seed, epoch, step) alone; in the background where that pays.

    An epoch is a permutation of the training part, cut into whole batches; what is left over is in another epoch's.
    """

    def __init__(self, task: Task, config: TrainConfig, group: Group):
        self.task, self.config, self.group = task, config, group
        self.size = task.size("train")
        self.pieces = group.world * config.accumulate
        if config.batch_size % self.pieces:
            raise OptionError(
                f"a batch of {config.batch_size} does not divide into {group.world} process(es) times "
                f"{config.accumulate} micro-batches: make batch_size a multiple of {self.pieces}."
            )
        if config.batch_size > self.size:
            raise OptionError(
                f"batch_size is {config.batch_size}, but the training part has {self.size} samples: use that or less."
            )
        if (config.mixup or config.cutmix) and (config.batch_size // self.pieces) % 2:
            raise OptionError(
                f"mixup and cutmix mix neighbours, so a micro-batch has an even size; "
                f"{config.batch_size} over {self.pieces} is {config.batch_size // self.pieces}."
            )
        self.epoch_steps = self.size // config.batch_size
        self._order: tuple[int, Tensor] | None = None
        self._ahead: deque[tuple[int, Future[list[Batch]]]] = deque()
        self._worker: ThreadPoolExecutor | None = None

    def __enter__(self) -> Feed:
        if self.task.ahead:
            self._worker = ThreadPoolExecutor(1)  # one thread, so batches are made in order
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)

    def get(self, step: int) -> list[Batch]:
        """The micro-batches of this process for a step, on the CPU. Steps are asked for one after another."""
        if self._worker is None:
            return self.make(step)
        following = self._ahead[-1][0] + 1 if self._ahead else step
        while len(self._ahead) <= self.task.ahead:
            self._ahead.append((following, self._worker.submit(self.make, following)))
            following += 1
        return self._ahead.popleft()[1].result()

    def make(self, step: int) -> list[Batch]:
        """The same, at once."""
        epoch, place = divmod(step, self.epoch_steps)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.size, combine(self.config.seed, ORDER, epoch))
        batch = self._order[1][place * self.config.batch_size : (place + 1) * self.config.batch_size]
        mine = batch.chunk(self.group.world)[self.group.rank]
        seed = combine(self.config.seed, AUGMENT, epoch)
        return [self._sample(indices, seed) for indices in mine.chunk(self.config.accumulate)]

    def _sample(self, indices: Tensor, seed: int) -> Batch:
        batch = self.task.sample("train", indices, seed=seed, train=True)
        if not self.config.mixup and not self.config.cutmix:
            return batch
        return self.task.mix(batch, seed=seed, indices=indices, mixup=self.config.mixup, cutmix=self.config.cutmix)


def count_step_flop(module: nn.Module, task: Task, feed: Feed) -> int:
    """Floating-point operations of one optimizer step, over all processes: see `TrainResult.step_flop`."""
    batch = to_device(feed.make(0)[0], feed.group.device)
    was_training = module.training
    module.eval()
    counted = operations(task.loss, module, batch)
    module.train(was_training)
    return 3 * feed.pieces * (2 * counted.multiply_adds + counted.other)


@dataclass(frozen=True)
class Limit:
    """When a run ends: after `steps`, or after `seconds` of training."""

    steps: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(budget: Budget, epoch_steps: int, step_flop: int) -> Limit:
        """A budget in steps or seconds. Raises `BudgetError` for one that ends before the first step."""
        if budget.unit == "seconds":
            return Limit(seconds=budget.amount)
        if budget.unit == "flop" and budget.amount < step_flop:
            raise BudgetError(
                f"a budget of {budget} ends before the first step, which takes {step_flop:.2g}flop: "
                f"give more, or a smaller batch or model."
            )
        per_unit = {"steps": 1.0, "epochs": epoch_steps, "flop": 1 / max(step_flop, 1)}[budget.unit]
        return Limit(steps=max(1, math.floor(budget.amount * per_unit)))

    @property
    def timed(self) -> bool:
        """Whether the clock decides."""
        return self.seconds is not None

    def done(self, step: float, seconds: float) -> float:
        """Share of the budget that is used up, 1 or more at its end."""
        return step / self.steps if self.steps is not None else seconds / (self.seconds or 1)


class Stepper:
    """Optimizer steps over micro-batches and processes; losses stay on the device until `flush` reads them."""

    def __init__(
        self, model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, config: TrainConfig, group: Group
    ):
        self.model, self.task, self.optimizer, self.config, self.group = model, task, optimizer, config, group
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self._rate = 0.0
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []

    def take(self, batches: list[Batch], step: int, share_of_rate: float) -> None:
        """One step. A micro-batch weighs as many targets as it has, so cutting a batch up does not change its mean."""
        config, group = self.config, self.group
        torch.manual_seed(combine(config.seed, DROPOUT, step, group.rank))
        self._rate = config.learning_rate * share_of_rate
        for weights in self.optimizer.param_groups:
            weights["lr"] = self._rate
        self.model.train()
        counts = [self.task.count(batch) for batch in batches]
        total = max(1, group.total(sum(counts)))
        mean = torch.zeros((), device=group.device)
        for k, (batch, count) in enumerate(zip(batches, counts, strict=True)):
            with gathering(self.model, last=k == len(batches) - 1):
                with autocast(config, group.device):
                    loss = self.task.loss(
                        self.model, to_device(batch, group.device), label_smoothing=config.label_smoothing
                    )
                    penalty = take_penalties(self.model)
                if penalty is not None:
                    loss = loss + penalty
                part = loss * (count / total)
                (part * group.world).backward()  # over processes, gradients are averaged and not summed
            mean += part.detach()
        limit = math.inf if config.clip is None else config.clip
        norm = torch.nn.utils.clip_grad_norm_(self.weights, limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._losses.append(mean)
        self._norms.append(whole(norm))

    def flush(self, step: int) -> dict[str, float]:
        """Mean loss and norm of the gradient over the steps since the last flush, and the rate of the last one.

        Raises `Diverged` where one of them is not a number. `step`: number of steps taken so far.
        """
        losses = self.group.sum(torch.stack(self._losses)).tolist()
        norms = torch.stack(self._norms).tolist()
        first = step - len(losses) + 1
        for number, (loss, norm) in enumerate(zip(losses, norms, strict=True), first):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(
                    f"step {number}: the {'gradient' if math.isfinite(loss) else 'loss'} is not a number any more "
                    f"(loss {loss:g}, learning rate {self._rate:.2g}). Try a tenth of the learning rate, a longer "
                    f"warmup, clip=1.0, or precision='float32'; the last checkpoint is from before."
                )
        self._losses, self._norms = [], []
        return {"loss": sum(losses) / len(losses), "rate": self._rate, "grad_norm": sum(norms) / len(norms)}


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Mixed precision, if the run has it."""
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = config.precision == "bfloat16" or (config.precision == "auto" and capable)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def measured(module: nn.Module, task: Task, config: TrainConfig, group: Group) -> dict[str, Any]:
    """The task's measurement of the validation part. Every process measures all of it."""
    with autocast(config, group.device):
        return task.evaluate(module, "valid")


def state_tensors(module: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> dict[str, Tensor]:
    """Everything that changes in training, by name; the tensors themselves, so that a checkpoint is read into them."""
    tensors = {f"model.{name}": t for name, t in module.state_dict().items() if isinstance(t, Tensor)}
    for name, p in module.named_parameters():
        tensors |= {f"optimizer.{key}.{name}": t for key, t in optimizer.state.get(p, {}).items()}
    for i, group in enumerate(optimizer.param_groups):  # what an optimizer counts once for a group
        tensors |= {f"optimizer.groups.{i}.{key}": t for key, t in group.items() if isinstance(t, Tensor)}
    if average is not None:
        tensors |= {f"average.{name}": t for name, t in average.weights.items()}
    return tensors


def start(
    folder: Path | None,
    facts: dict[str, Any],
    resume: bool,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    group: Group,
) -> tuple[int, float]:
    """Step and seconds to go on from: those of the last checkpoint, which is read, or zero."""
    if folder is None:
        if resume:
            raise CheckpointError("resume=True goes on from the checkpoints in `out`: name that folder.")
        return 0, 0.0
    problem = None
    if group.leads:
        try:
            checkpoint.prepare_folder(folder)
        except AnyformerError as error:
            problem = error
    group.agree(problem)
    found = group.lead(checkpoint.checkpoints(folder))
    if not found:
        return 0, 0.0
    if not resume:
        raise CheckpointError(
            f"{folder} holds a run already: resume=True (on the command line --resume) goes on with it, or choose "
            "another folder."
        )
    held = checkpoint.load_facts(found[-1])
    for what, now in facts.items():
        if held[what] != now:
            raise CheckpointError(
                f"the run in {folder} was started with another {what} ({difference(held[what], now)}): resume it with "
                f"the same, or choose another folder."
            )
    checkpoint.load(found[-1], state_tensors(module, optimizer, average), group)
    return held["step"], held["seconds"]


def difference(then: Any, now: Any) -> str:
    """The first thing in which two descriptions differ, in words."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            if then.get(key) != now.get(key):
                return f"{key} was {then.get(key)!r:.60}, now {now.get(key)!r:.60}"
    return f"was {then!r:.60}, now {now!r:.60}"


def leave(folder: Path, result: TrainResult, spec: str | None, group: Group) -> None:
    """Write the final weights, as `from_pretrained` reads them, the Spec and the result."""
    from safetensors.torch import save

    weights = {name: whole(t).detach().cpu().clone() for name, t in result.model.state_dict().items()}
    problem = None
    if group.leads:
        try:
            note = {"format": "pt"} if spec is None else {"format": "pt", "anyformer": spec}
            checkpoint.write_atomically(folder / WEIGHTS, save(weights, metadata=note))
            if spec is not None:
                checkpoint.write_atomically(folder / SPEC, spec)
            checkpoint.write_atomically(folder / "result.json", json.dumps(result.to_dict(), indent=1))
        except AnyformerError as error:
            problem = error
    group.agree(problem)
