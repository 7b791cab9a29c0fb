"""PVT: does attention to a reduced map make fine tokens affordable without losing accuracy?

A PVT cut down to two stages with patches of 2, so that 128x128 pixels are 4,096 tokens in the first stage (224x224 are
3,136 in the published models). Speed at 128x128, accuracy on digits enlarged to 32x32.
"""

from __future__ import annotations

from functools import partial

import torch

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile.latency import measure_latency
from anyformer.models import create_model
from anyformer.models.vision.pvt import pvt

CLAIM = Claim(
    statement="Spatial reduction makes a pyramid of fine tokens several times faster at nearly the same accuracy.",
    baseline="The same model with keys and values from the whole map (all R = 1), trained alike.",
    expect=(
        Expect("speedup", at_least=3.0, unit="forward at 128x128"),
        Expect("accuracy_loss", at_most=0.03, unit="accuracy on digits at 32x32"),
    ),
)


def model(reductions: tuple[int, int]) -> Spec:
    """Two stages of one block."""
    return pvt((32, 64), (1, 1), (1, 2), reductions=reductions, ratios=(2.0, 2.0), patch=2)


def measure(seed: int) -> dict[str, float]:
    """How much faster, and how much worse, the reduced model is."""
    numbers: dict[str, float] = {}
    task = images_task(digits_at(32), classes=10)
    for name, reductions in (("reduced", (8, 4)), ("full", (1, 1))):
        large = create_model(model(reductions), image_size=128, num_classes=10).eval()
        images = torch.randn(1, 3, 128, 128)
        with torch.inference_mode():
            numbers[f"{name}_seconds"] = measure_latency(partial(large, images)).median
        trained = fit(model(reductions), task, seed, epochs=6, batch_size=32, learning_rate=4e-3)
        numbers[f"{name}_accuracy"] = accuracy(trained, task)
    numbers["speedup"] = numbers["full_seconds"] / numbers["reduced_seconds"]
    numbers["accuracy_loss"] = numbers["full_accuracy"] - numbers["reduced_accuracy"]
    return numbers
