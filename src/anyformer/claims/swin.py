"""Swin: does shifting the windows let neighbours on two sides of a border compare notes?

Images of 16x16 tokens with windows of 4. Two marks, upright bars of +1 or -1, lie on the two sides of a border between
windows; the label says whether they are equal. Without shifts no token ever sees both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="Shifted windows connect neighbouring windows: tokens on two sides of a border can be compared.",
    baseline="The same blocks, of equal size and trained alike, with windows that never shift.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
)
SIDE, WINDOW = 16, 4


def marks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 16, 16)` of zeros with two upright bars along a border; whether the bars are equal."""
    generator = torch.Generator().manual_seed(seed)
    border = WINDOW * torch.randint(1, SIDE // WINDOW, (n,), generator=generator)
    signs = torch.randint(2, (n, 2), generator=generator) * 2.0 - 1
    images = torch.zeros(n, 1, SIDE, SIDE)
    samples = torch.arange(n)
    images[samples, 0, :, border - 1] = signs[:, :1]
    images[samples, 0, :, border] = signs[:, 1:]
    return images, (signs[:, 0] == signs[:, 1]).long()


def model(second: str) -> Spec:
    """Two blocks; the second's windows are shifted by "half" a window, or "none"."""
    blocks = [
        Spec("prenorm", mixer=Spec("window", heads=2, window=WINDOW, shift=shift), ffn=Spec("mlp", ratio=2.0))
        for shift in ("none", second)
    ]
    return Spec("isotropic", dim=32, depth=2, block=blocks, embed=Spec("patch", size=1))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with and without shifts."""
    parts = {"train": marks(1024, 3 * seed), "valid": marks(64, 3 * seed + 1), "test": marks(512, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    found = {}
    for name, shift in (("shifted", "half"), ("unshifted", "none")):
        trained = fit(model(shift), task, seed, epochs=6, batch_size=32, learning_rate=3e-3)
        found[name] = accuracy(trained, task)
    return {"gain": found["shifted"] - found["unshifted"], **found}
