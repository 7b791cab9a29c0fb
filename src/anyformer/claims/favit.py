"""FaViT: does attention of several reaches lose less accuracy on spoiled images than windows do?

Digits enlarged to 32 pixels, learned clean; at test time with noise, or with a square of 12x12 pixels hidden. The
drop is that of accuracy, averaged over both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.scale import scale_to
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model
from anyformer.models.vision.favit import favit
from anyformer.models.vision.swin import swin
from anyformer.tasks.classification import ImageClassification

CLAIM = Claim(
    statement="A model of factorized attention loses less accuracy to noise and occlusion than one of windows.",
    baseline="A Swin of as many parameters, trained alike on the same clean images.",
    expect=(Expect("smaller_drop", at_least=1.0, unit="points of test accuracy, mean of noise and occlusion"),),
    seeds=(1, 2, 3),
)
SIDE, NOISE, HIDDEN, EPOCHS = 32, 1.0, 12, 8


def spoiled(images: Tensor, seed: int) -> dict[str, Tensor]:
    """The images with Gaussian noise, and with a square at a random place set to the mean."""
    generator = torch.Generator().manual_seed(seed)
    noisy = images + NOISE * torch.randn(images.shape, generator=generator)
    corners = torch.randint(SIDE - HIDDEN + 1, (2, len(images), 1), generator=generator)
    steps = torch.arange(SIDE)
    rows, columns = ((steps >= c) & (steps < c + HIDDEN) for c in corners)
    square = (rows[:, :, None] & columns[:, None, :])[:, None]
    return {"noise": noisy, "occlusion": images.masked_fill(square, 0.0)}


def arms(task: ImageClassification) -> dict[str, Spec]:
    """A small FaViT and a Swin of its size."""
    options = task.model_options()
    ours = favit((32, 64), (2, 2), (1, 2), ratios=(2.0, 2.0), reductions=(2, 1), window=3, mixer="factorized", patch=7)
    size = create_model(ours, **options).num_parameters()
    windows = swin(32, (2, 2), (1, 2), windows=4, patch=4, ratio=2.0).set(init="fan_in", **options)
    return {"favit": ours, "swin": scale_to(windows, size, **options)}


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of both on clean and on spoiled images."""
    parts = digits_at(SIDE)
    task = images_task(parts, classes=10)
    images, labels = parts["test"]
    others = {
        name: images_task({**parts, "test": (x, labels)}, classes=10) for name, x in spoiled(images, seed).items()
    }
    found: dict[str, float] = {}
    for name, spec in arms(task).items():
        model = fit(spec, task, seed, EPOCHS, batch_size=32, learning_rate=2e-3)
        found[f"{name}_clean"] = 100 * accuracy(model, task)
        found |= {f"{name}_{kind}": 100 * accuracy(model, other) for kind, other in others.items()}
        found[f"{name}_drop"] = found[f"{name}_clean"] - sum(found[f"{name}_{kind}"] for kind in others) / len(others)
    return found | {"smaller_drop": found["swin_drop"] - found["favit_drop"]}
