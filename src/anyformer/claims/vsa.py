"""VSA: does one block see the next window, where one block of fixed windows does not?

Images of 16x16 pixels in windows of 4x4, each light or dark on noise. One window is marked by stripes; the label says
whether the window to its right is light.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="One block whose windows move and grow tells what lies in the next window; one of fixed windows cannot.",
    baseline="One block of 4x4 windows with Swin's bias table: the same otherwise, trained alike.",
    expect=(Expect("gain", at_least=0.15, unit="accuracy"),),
    seeds=(1, 2, 3),
)
SIDE, WINDOW, NOISE = 16, 4, 0.3
COUNT = SIDE // WINDOW


def neighbours(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 16, 16)`, and whether the window to the right of the striped one is light."""
    generator = torch.Generator().manual_seed(seed)
    light = torch.randint(2, (n, COUNT, COUNT), generator=generator)
    rows = torch.randint(COUNT, (n,), generator=generator)
    columns = torch.randint(COUNT - 1, (n,), generator=generator)
    samples = torch.arange(n)
    windows = (2.0 * light - 1)[..., None, None].repeat(1, 1, 1, WINDOW, WINDOW)
    stripes = torch.tensor([2.0, -2.0]).repeat(WINDOW // 2).expand(WINDOW, WINDOW)
    windows[samples, rows, columns] = stripes
    images = windows.transpose(2, 3).reshape(n, 1, SIDE, SIDE)
    return images + NOISE * torch.randn(images.shape, generator=generator), light[samples, rows, columns + 1]


def model(mixer: Spec) -> Spec:
    """One block on tokens of one pixel."""
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp", ratio=4.0))
    return Spec("isotropic", dim=32, depth=1, block=block, embed=Spec("patch", size=1), head=Spec("classifier"))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with windows that vary and with fixed ones."""
    parts = {"train": neighbours(2048, 3 * seed), "valid": neighbours(64, 3 * seed + 1)}
    task = images_task(parts | {"test": neighbours(512, 3 * seed + 2)}, classes=2)
    names = {"varied": "varied_size_window", "fixed": "window"}
    found = {
        arm: accuracy(
            fit(model(Spec(name, heads=2, window=WINDOW)), task, seed, epochs=6, batch_size=32, learning_rate=3e-3),
            task,
        )
        for arm, name in names.items()
    }
    return {"gain": found["varied"] - found["fixed"], **found}
