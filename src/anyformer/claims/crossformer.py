"""CrossFormer: does attention at intervals let far tokens be compared, where neighbours alone cannot?

Images of 16x16 tokens with two distant marks of +1 or -1; the label says whether they are equal. Groups of 4x4: with
near groups only, no token ever sees both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="A near and a far block together connect distant tokens, so that two marks far apart can be compared.",
    baseline="Two near blocks, of equal size and cost, trained alike.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
    seeds=(1, 2, 3),
)
SIDE, GROUP = 16, 4


def marks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 16, 16)` of zeros with two marks, 8 rows and 8 columns or more apart; whether they are equal."""
    generator = torch.Generator().manual_seed(seed)
    half = SIDE // 2
    first = torch.randint(half, (n, 2), generator=generator)
    second = first + half + (torch.rand(n, 2, generator=generator) * (half - first)).long()
    mirrored = torch.randint(2, (n, 1), generator=generator) * (SIDE - 1)
    first[:, 1:], second[:, 1:] = (mirrored - first[:, 1:]).abs(), (mirrored - second[:, 1:]).abs()
    signs = torch.randint(2, (n, 2), generator=generator) * 2.0 - 1
    images = torch.zeros(n, 1, SIDE, SIDE)
    samples = torch.arange(n)
    for place, sign in ((first, signs[:, 0]), (second, signs[:, 1])):
        images[samples, 0, place[:, 0], place[:, 1]] = sign
    return images, (signs[:, 0] == signs[:, 1]).long()


def model(second: int) -> Spec:
    """Two blocks of groups of 4x4; the second's tokens lie at this interval."""
    blocks = [
        Spec("prenorm", mixer=Spec("interval_window", heads=2, window=GROUP, interval=i), ffn=Spec("mlp", ratio=2.0))
        for i in (1, second)
    ]
    return Spec("isotropic", dim=32, depth=2, block=blocks, embed=Spec("patch", size=1))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with a far second block, and with a near one."""
    parts = {"train": marks(1024, 3 * seed), "valid": marks(64, 3 * seed + 1), "test": marks(512, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    found = {
        name: accuracy(fit(model(interval), task, seed, epochs=8, batch_size=32, learning_rate=3e-3), task)
        for name, interval in (("near_far", SIDE // GROUP), ("near_near", 1))
    }
    return {"gain": found["near_far"] - found["near_near"], **found}
