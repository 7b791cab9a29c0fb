"""What claims on restoration share: every arm is trained alike on squares of photographs, and measured on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from anyformer.lab.train import TrainConfig, train
from anyformer.tasks.restoration import Restoration


def trained(
    make: Callable[[], nn.Module],
    task: Restoration,
    seed: int,
    *,
    steps: int,
    rates: Sequence[float],
    batch_size: int,
) -> nn.Module:
    """The model at the rate that the validation part prefers.

    Args:
        make: builds the model; called once for each rate, from the same seed.
        seed: of the starting weights and of the squares.
        steps: optimizer steps for each rate, `batch_size` squares each.
    """
    best: tuple[float, nn.Module] | None = None
    for rate in rates:
        torch.manual_seed(seed)
        config = TrainConfig(
            budget=f"{steps}steps",
            batch_size=batch_size,
            learning_rate=rate,
            weight_decay=0.0,
            seed=seed,
            evaluations=1,
            device="cpu",
        )
        result = train(make(), task, config, progress=False)
        if best is None or result.metrics["psnr"] > best[0]:
            best = (result.metrics["psnr"], result.model)
    assert best is not None
    return best[1]
