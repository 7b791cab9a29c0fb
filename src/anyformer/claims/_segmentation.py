"""What claims on segmentation share: every arm is trained alike on generated masks, and measured on the test part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from anyformer.lab.train import TrainConfig, train
from anyformer.tasks.segmentation import SemanticSegmentation


def measured(
    make: Callable[[], nn.Module],
    task: SemanticSegmentation,
    seed: int,
    *,
    steps: int,
    rates: Sequence[float],
    batch_size: int,
) -> dict[str, Any]:
    """What the test part says of the model at the rate that the validation part prefers.

    Args:
        make: builds the model; called once for each rate, from the same seed.
        seed: of the starting weights and the order of the images.
        steps: optimizer steps for each rate, `batch_size` images each.
    """
    best, found = -1.0, {}
    for rate in rates:
        torch.manual_seed(seed)
        config = TrainConfig(
            budget=f"{steps}steps",
            batch_size=batch_size,
            learning_rate=rate,
            seed=seed,
            evaluations=1,
            device="cpu",
        )
        result = train(make(), task, config, progress=False)
        if result.metrics["miou"] > best:
            best, found = result.metrics["miou"], task.evaluate(result.model, "test")
    return found
