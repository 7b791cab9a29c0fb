"""What claims about pretraining share: fine-tuning of a pretrained and of a fresh model, alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from anyformer.claims._images import accuracy
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks.classification import ImageClassification

RATES = (5e-4, 2e-3)
"""Learning rates that every arm tries."""


def tuned(make: Callable[[], nn.Module], task: ImageClassification, seed: int, *, steps: int) -> float:
    """Test accuracy in percent at the rate that the validation part prefers; batches of 50."""
    best, found = -1.0, 0.0
    for rate in RATES:
        torch.manual_seed(seed)
        config = TrainConfig(
            budget=f"{steps}steps", batch_size=50, learning_rate=rate, seed=seed, evaluations=1, device="cpu"
        )
        model = train(make(), task, config, progress=False).model
        valid = accuracy(model, task, "valid")
        if valid > best:
            best, found = valid, 100 * accuracy(model, task)
    return found
