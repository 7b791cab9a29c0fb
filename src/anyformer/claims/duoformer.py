"""DuoFormer: do all scales of a convolutional trunk tell what its last scale alone cannot?

Images of 32x32 pixels with a bright shape, a cross or a ring, on a fine texture, rows or columns one pixel wide, and
noise; the class is the pair of both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.vision.duoformer import duoformer
from anyformer.models.vision.resnet import resnet

CLAIM = Claim(
    statement="Where the class is in fine texture and coarse shape together, all scales beat the last one alone.",
    baseline="The same net with the trunk's last scale alone; the same trunk, blocks, steps and learning rate.",
    expect=(Expect("all_minus_last", at_least=5.0, unit="points of test accuracy"),),
    seeds=(1, 2, 3),
)
SIDE, EPOCHS, NOISE = 32, 6, 1.0
COUNTS = {"train": 1024, "valid": 128, "test": 512}


def scenes(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 32, 32)` and their classes, 2 texture + shape."""
    labels = torch.randint(4, (n,), generator=generator)
    steps = torch.arange(SIDE)
    phases = torch.randint(2, (n, 1), generator=generator)
    lines = 1.0 - 2.0 * ((steps + phases) % 2)
    texture = torch.where((labels < 2)[:, None, None], lines[:, :, None], lines[:, None, :])
    centers = torch.randint(10, SIDE - 10, (n, 2), generator=generator)
    rows, columns = (steps[None] - centers[:, axis, None] for axis in (0, 1))
    rows, columns = rows[:, :, None].float(), columns[:, None, :].float()
    radius = (rows.square() + columns.square()).sqrt()
    ring = (radius > 5) & (radius < 9)
    cross = ((rows.abs() < 2.5) | (columns.abs() < 2.5)) & (radius < 9)
    shape = torch.where((labels % 2 == 0)[:, None, None], ring, cross).float()
    noise = torch.randn(n, SIDE, SIDE, generator=generator)
    return (0.5 * texture + shape + NOISE * noise)[:, None], labels


def model(stages: tuple[int, ...]) -> Spec:
    """A trunk with maps of 16, 8 and 4 places along each axis, and two blocks of each attention."""
    trunk = resnet("basic", (16, 24, 32), (1, 1, 1), stem=16, embed=Spec("patch", size=2), image_size=SIDE)
    return duoformer(trunk, 32, 2, stages=stages, depths=(1, 1), token="learned", ratio=2.0, pool="mean")


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with all scales and with the last."""
    generator = torch.Generator().manual_seed(seed)
    task = images_task({split: scenes(n, generator) for split, n in COUNTS.items()}, classes=4)
    found = {
        name: 100 * accuracy(fit(model(stages), task, seed, EPOCHS, learning_rate=2e-3), task)
        for name, stages in (("all", (0, 1, 2)), ("last", (2,)))
    }
    return found | {"all_minus_last": found["all"] - found["last"]}
