"""What is measured of a model beside its training: cost before it, and quality on the test part after it."""

from __future__ import annotations

import base64
import math
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.lab.compare.entrants import Entrant
from anyformer.lab.profile import activation_memory, profile
from anyformer.lab.train.config import OPTIMIZERS, TrainConfig
from anyformer.lab.train.distributed import choose_device, joined
from anyformer.lab.train.feed import Feed
from anyformer.lab.train.loop import count_step_flop, make_model, own_randomness
from anyformer.lab.train.stepper import autocast
from anyformer.tasks.task import Batch, Task, measuring, to_device

TIMING = 0.3
"""Seconds that each timing lasts at least."""

KEPT_ANSWERS = 1000
"""Test samples, the first ones, whose answers are kept to see where models disagree."""

PASSAGES, CONTINUED, CONTINUATION = 48, 3, 80
"""Of a text: passages whose bits are kept, how many of them are continued, and for how many tokens."""

MANY_CLASSES = 100
"""Beyond this many classes a confusion table is not kept: it grows with their square."""


def cost(entrant: Entrant, task: Task, config: TrainConfig) -> dict[str, Any]:
    """What a model costs on this task, on this machine, with random weights.

    "operations" (multiply-adds of one input), "latency" (seconds at batch 1), "throughput" (inputs per second at the
    training batch size), "memory" (bytes, see `training_memory`), "step_flop" (of one optimizer step), "threads".
    """
    with joined(config.device) as group, own_randomness(group.device):
        torch.manual_seed(config.seed)
        model = make_model(entrant.spec, task).to(group.device)
        feed = Feed(task, config, group)
        batch = to_device(feed.make(0)[0], group.device)
        length = task.model_options().get("max_length")
        sizes = None if length is None else [length]
        point = profile(model, sizes, batch=config.batch_size, seconds=TIMING, device=group.device.type).points[0]
        with autocast(config, group.device):
            memory = training_memory(model, task, batch, config)
        return {
            "operations": point.operations,
            "uncounted": list(point.uncounted),
            "latency": point.latency.median,
            "throughput": point.throughput,
            "throughput_batch": point.batch,
            "memory": memory,
            "step_flop": count_step_flop(model, task, feed),
            "epoch_steps": feed.epoch_steps,
            "threads": point.latency.threads,
            "device": point.latency.device,
        }


class _Loss(nn.Module):
    """A model with its task's loss, so that what autograd saves for both is counted."""

    def __init__(self, model: nn.Module, task: Task):
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch) -> Tensor:
        return self.task.loss(self.model, batch)


def training_memory(model: nn.Module, task: Task, batch: Batch, config: TrainConfig) -> int:
    """Bytes that a training step needs at its peak: weights, of those that train the gradients and what the optimizer
    keeps of each (AdamW two moments), and the activations that one micro-batch saves for the backward pass."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    kept = (1 + len(OPTIMIZERS[config.optimizer].state)) * trained
    return sum(size for size, _ in sizes) + kept + activation_memory(_Loss(model, task), batch)


def quality(model: nn.Module, task: Task, config: TrainConfig, continued: bool) -> dict[str, Any]:
    """The task's measurement of the test part as plain data, with what shows where models differ.

    "test" (numbers), "classes", "confusion", "answers" (of the first `KEPT_ANSWERS` samples), and for texts
    "passages"; with `continued`, "continuations" of some of them, and the task's "pictures" (caption, PNG as base64).
    """
    with autocast(config, choose_device(config.device)):
        measured = task.evaluate(model, "test")
        found: dict[str, Any] = {"test": {k: v for k, v in measured.items() if isinstance(v, int | float)}}
        if "classes" in measured:
            found["classes"] = measured["classes"]
            if len(measured["classes"]) <= MANY_CLASSES:
                found["confusion"] = measured["confusion"]
        if "guesses" in measured:
            found["answers"] = measured["guesses"][:KEPT_ANSWERS]
        elif task.metric == "bits_per_byte":
            found["passages"] = passage_bits(model, task)
            if continued:
                prompts = [task.examples("test", i + 1)[i]["input"] for i in passage_indices(task)[:CONTINUED].tolist()]
                said = task.predict(model, prompts, tokens=CONTINUATION) if prompts else []  # type: ignore[call-arg]
                found["continuations"] = [{"input": s["input"], "text": s["continuation"]} for s in said]
        if continued and (drawn := task.pictures(model, "test")):
            found["pictures"] = [{"caption": d.caption, "png": base64.b64encode(d.png()).decode()} for d in drawn]
    return found


def passage_indices(task: Task) -> Tensor:
    """`PASSAGES` whole windows of the test part, spread evenly over it."""
    count = max(task.size("test") - 1, 1)  # the last one may be cut short
    return torch.arange(count)[:: math.ceil(count / PASSAGES)]


def passage_bits(model: nn.Module, task: Task) -> list[dict[str, float]]:
    """ "index" and "bits_per_byte" of single passages."""
    found = []
    with measuring(model) as device:
        for index in passage_indices(task).tolist():
            batch = to_device(task.sample("test", torch.tensor([index])), device)
            nats = float(task.loss(model, batch)) * task.count(batch)
            found.append({"index": index, "bits": nats / math.log(2)})
    return found
