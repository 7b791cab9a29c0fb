"""EMOv2: do windows that span the map tell what windows of neighbours cannot?

Images of 8x8 tokens with two spots, light or dark, half a map apart along one axis or both; the label says whether
they are alike. One block with windows of 2x2 tokens: neighbours, or every fourth token. Both models have the same
parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="Close and remote windows together relate spots half a map apart; close windows alone do not.",
    baseline="The same model, of as many parameters, with close windows alone; trained alike.",
    expect=(Expect("gain", at_least=10.0, unit="points of test accuracy"),),
    seeds=(1, 2),
)
SIDE, WINDOW = 8, 2


def spots(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 8, 8)` of zeros with two spots of 1 or -1; whether they are alike."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(2, (2, n), generator=generator)
    first = torch.randint(SIDE, (n, 2), generator=generator)
    apart = torch.tensor([[0, 1], [1, 0], [1, 1]])[torch.randint(3, (n,), generator=generator)] * (SIDE // 2)
    images, samples = torch.zeros(n, 1, SIDE, SIDE), torch.arange(n)
    for place, kind in zip((first, (first + apart) % SIDE), kinds, strict=True):
        images[samples, 0, place[:, 0], place[:, 1]] = 2.0 * kind - 1
    return images, (kinds[0] == kinds[1]).long()


def model(windows: str) -> Spec:
    """One block on tokens of one pixel."""
    mixer = Spec("spanning_window", head_dim=8, window=WINDOW, windows=windows, ratio=2.0, kernel=3)
    block = Spec("prenorm", mixer=mixer, ffn=None)
    return Spec("isotropic", dim=32, depth=1, block=block, embed=Spec("patch", size=1), head=Spec("classifier"))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy in percent with both kinds of windows, and with close ones alone."""
    parts = {"train": spots(2048, 3 * seed), "valid": spots(64, 3 * seed + 1), "test": spots(512, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    found = {
        windows: 100 * accuracy(fit(model(windows), task, seed, epochs=10, batch_size=32, learning_rate=3e-3), task)
        for windows in ("both", "close")
    }
    return {"gain": found["both"] - found["close"], **found}
