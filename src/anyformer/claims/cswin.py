"""CSWin: does one block of crossing stripes tell what one block of square windows cannot?

Images of 16x16 tokens, two bright marks on an empty background; the label says whether they lie in the same row or
column. Every head sees 16 tokens in both models: a row or a column, or a window of 4x4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="One block of crossing stripes connects tokens of a row or column; one of equal windows does not.",
    baseline="One block of 4x4 windows with Swin's bias table: as many tokens for every head, trained alike.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
    seeds=(1, 2),
)
SIDE, WINDOW = 16, 4


def marks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 16, 16)` of zeros with two marks; whether those share a row or a column, as half of them do."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2).repeat_interleave(n // 2)
    first = torch.randint(SIDE, (n, 2), generator=generator)
    steps = torch.randint(1, SIDE, (n, 2), generator=generator)  # neither is 0: another row and another column
    shared = torch.randint(2, (n,), generator=generator)  # the axis along which marks of label 1 agree
    steps[torch.arange(n), shared] *= 1 - labels
    second = (first + steps) % SIDE
    images, samples = torch.zeros(n, 1, SIDE, SIDE), torch.arange(n)
    for place in (first, second):
        images[samples, 0, place[:, 0], place[:, 1]] = 1
    return images, labels


def model(mixer: Spec) -> Spec:
    """One block on tokens of one pixel."""
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp", ratio=4.0))
    return Spec("isotropic", dim=32, depth=1, block=block, embed=Spec("patch", size=1), head=Spec("classifier"))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with stripes and with windows."""
    parts = {"train": marks(2048, 3 * seed), "valid": marks(64, 3 * seed + 1), "test": marks(512, 3 * seed + 2)}
    task = images_task(parts, classes=2)
    mixers = {"stripes": Spec("cross_shaped", heads=4, stripe=1), "windows": Spec("window", heads=4, window=WINDOW)}
    found = {
        name: accuracy(fit(model(mixer), task, seed, epochs=11, batch_size=32, learning_rate=2e-3), task)
        for name, mixer in mixers.items()
    }
    return {"gain": found["stripes"] - found["windows"], **found}
