"""DiNAT: does dilation in every second block let distant tokens meet at equal cost?

Images of 24x24 tokens. Two marks, upright bars of +1 or -1, lie 12 columns apart; the label says whether they are
equal. Two blocks of 5x5 neighbours reach 4 tokens to each side, so that no token hears of both marks; where the second
block takes every 4th token, those in the middle do. Both models have the same parameters and multiply-adds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="Alternating near and dilated neighbourhoods compares what near ones alone never bring together.",
    baseline="The same blocks, of equal size and trained alike, without dilation.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
    seeds=(1, 2, 3),
)
SIDE, APART, KERNEL, DILATION = 24, 12, 5, 4


def marks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 24, 24)` of zeros with two upright bars 12 columns apart; whether the bars are equal."""
    generator = torch.Generator().manual_seed(seed)
    column = torch.randint(SIDE - APART, (n,), generator=generator)
    signs = torch.randint(2, (n, 2), generator=generator) * 2.0 - 1
    images = torch.zeros(n, 1, SIDE, SIDE)
    samples = torch.arange(n)
    images[samples, 0, :, column] = signs[:, :1]
    images[samples, 0, :, column + APART] = signs[:, 1:]
    return images, (signs[:, 0] == signs[:, 1]).long()


def model(second: int) -> Spec:
    """Two blocks of neighborhood attention; the second with this dilation."""
    blocks = [
        Spec("prenorm", mixer=Spec("neighborhood", heads=1, kernel=KERNEL, dilation=step), ffn=Spec("mlp", ratio=2.0))
        for step in (1, second)
    ]
    return Spec("isotropic", dim=16, depth=2, block=blocks, embed=Spec("patch", size=1))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with and without dilation."""
    parts = {"train": marks(512, 3 * seed), "valid": marks(64, 3 * seed + 1), "test": marks(256, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    found = {}
    for name, second in (("dilated", DILATION), ("near", 1)):
        trained = fit(model(second), task, seed, epochs=5, batch_size=16, learning_rate=5e-3)
        found[name] = accuracy(trained, task)
    return {"gain": found["dilated"] - found["near"], **found}
