"""Vats and Chadha 2023, arXiv:2301.10906: squeeze and excitation with SAM help a small Swin with few images."""

from __future__ import annotations

import torch
from torch import nn

from anyformer.claims._digits import OPTIONS
from anyformer.claims._images import digits_at, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train.config import TrainConfig
from anyformer.lab.train.optimizer import make_optimizer, rate
from anyformer.methods.optimization.sam import SAM
from anyformer.models import create_model
from anyformer.tasks.classification import ImageClassification

CLAIM = Claim(
    statement="On 300 images, a small Swin with squeeze and excitation and SAM is not below the plain one, better in "
    "the mean, and its loss rises less when its weights are perturbed.",
    baseline="The plain Swin with AdamW alone: the same images, epochs, schedule and learning rates.",
    expect=(
        Expect("gain", at_least=-0.5, unit="points of macro F1"),
        Expect("better", at_least=1e-9, unit="points of macro F1"),
        Expect("flatter", at_least=10.0, unit="percent less rise of the loss at 5 % of the weights' norm"),
    ),
    seeds=(1, 2, 3),
)
IMAGES, EPOCHS, BATCH = 300, 50, 50
RATES = (2e-3, 5e-3)
RHO, RADIUS, DIRECTIONS = 0.05, 0.05, 10


def trained(model: nn.Module, task: ImageClassification, learning_rate: float, seed: int, *, rho: float | None) -> None:
    """Train with AdamW, with SAM around it where a `rho` is given."""
    config = TrainConfig(learning_rate=learning_rate)
    optimizer = make_optimizer(model, config)
    steps = EPOCHS * (IMAGES // BATCH)
    sam = None if rho is None else SAM(optimizer, rho)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    rows = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        rows = torch.randperm(IMAGES, generator=generator) if len(rows) < BATCH else rows
        batch, rows = task.sample("train", rows[:BATCH], seed=seed), rows[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate((step + 0.5) / steps, config)
        if sam is not None:
            sam.step(lambda batch=batch: task.loss(model, batch))
            continue
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def rise(model: nn.Module, task: ImageClassification, seed: int) -> float:
    """How much the training loss rises in the mean over random directions of `RADIUS` times the weights' norm."""
    batch = task.sample("train", torch.arange(IMAGES))
    weights = list(model.parameters())
    norm = torch.nn.utils.get_total_norm(weights)
    generator = torch.Generator().manual_seed(seed)
    here, there = float(task.loss(model, batch)), 0.0
    for _ in range(DIRECTIONS):
        kept = [p.clone() for p in weights]
        steps = [torch.randn(p.shape, generator=generator) for p in weights]
        scale = RADIUS * norm / torch.nn.utils.get_total_norm(steps)
        for p, step in zip(weights, steps, strict=True):
            p.add_(step * scale)
        there += float(task.loss(model, batch)) / DIRECTIONS
        for p, before in zip(weights, kept, strict=True):
            p.copy_(before)
    return there - here


def measure(seed: int) -> dict[str, float]:
    """Macro F1 on the test part, and the rise of the loss, of both at the rates that the validation part prefers."""
    task = images_task(digits_at(8, seed, IMAGES), classes=10)
    found: dict[str, float] = {}
    for name, variant, rho in (("sam", "fer_se_swin_micro", RHO), ("plain", "swin_micro", None)):
        best = -1.0
        for learning_rate in RATES:
            torch.manual_seed(seed)
            model = create_model(variant, **OPTIONS)
            trained(model, task, learning_rate, seed, rho=rho)
            valid = task.evaluate(model, "valid")["f1"]
            if valid > best:
                best = valid
                found[name] = 100 * task.evaluate(model, "test")["f1"]
                found[f"{name}_rise"] = rise(model, task, seed)
    gain = found["sam"] - found["plain"]
    return {**found, "gain": gain, "better": gain, "flatter": 100 * (1 - found["sam_rise"] / found["plain_rise"])}
