"""What claims on the digits share: every arm of a comparison is trained alike, and measured on the test part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from anyformer.claims._images import digits_at, images_task
from anyformer.lab.train import TrainConfig, train

OPTIONS = {"num_classes": 10, "in_channels": 1, "image_size": 8}
"""What a model needs for the digits."""


RATES = (2e-3, 5e-3)
"""Learning rates that every arm tries."""

BUDGET = 3600
"""Optimizer steps of one claim, shared evenly by its arms, rates and seeds: about two minutes on two cores."""


def steps_each(arms: int, seeds: int) -> int:
    """Steps of one training run, for a claim of so many arms and seeds."""
    return BUDGET // (arms * seeds * len(RATES))


def accuracy(make: Callable[[], nn.Module], seed: int, *, steps: int, images: int | None = None) -> float:
    """Test accuracy in percent at the rate that the validation part prefers.

    Args:
        make: builds the model; called once for each rate, from the same seed.
        seed: of the starting weights and the order of the images.
        steps: optimizer steps for each rate, 64 images each.
        images: how many training images; all unless given.
    """
    task = images_task(digits_at(8, seed, images), classes=10)
    best, found = -1.0, 0.0
    for rate in RATES:
        torch.manual_seed(seed)
        config = TrainConfig(budget=f"{steps}steps", learning_rate=rate, seed=seed, evaluations=1, device="cpu")
        result = train(make(), task, config, progress=False)
        if result.metrics["accuracy"] > best:
            best = result.metrics["accuracy"]
            found = 100 * task.evaluate(result.model, "test")["accuracy"]
    return found
