"""APVT: do blocks in four groups of channels do as well as whole ones, with half of the parameters?

Digits enlarged to 32 pixels, and a pyramid of two stages; the groups alone differ.
"""

from __future__ import annotations

from typing import Any

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.models.vision.apvt import apvt

CLAIM = Claim(
    statement="Encoders split into four groups and merged again are nearly as accurate, with far fewer parameters.",
    baseline="The same pyramid with one group, which is PVT; trained alike.",
    expect=(
        Expect("accuracy_loss", at_most=2.0, unit="points of test accuracy"),
        Expect("fewer_parameters", at_least=50.0, unit="percent fewer in the blocks"),
    ),
    seeds=(1, 2, 3),
)
SIDE, EPOCHS = 32, 8


def measure(seed: int) -> dict[str, float]:
    """Test accuracy, and parameters of the blocks, with four groups and with one."""
    task = images_task(digits_at(SIDE), classes=10)
    found: dict[str, float] = {}
    for groups in (1, 4):
        spec = apvt((32, 64), (2, 2), (4, 4), groups=groups, reductions=(4, 2), ratios=(4.0, 4.0), patch=4)
        model: Any = fit(spec, task, seed, EPOCHS, batch_size=32, learning_rate=2e-3)
        found[f"accuracy_{groups}"] = 100 * accuracy(model, task)
        found[f"parameters_{groups}"] = sum(p.numel() for s in model.stages for p in s.blocks.parameters())
    return found | {
        "accuracy_loss": found["accuracy_1"] - found["accuracy_4"],
        "fewer_parameters": 100 * (1 - found["parameters_4"] / found["parameters_1"]),
    }
