"""SMT: do filters of several sizes, mixed across heads, tell digits of many sizes better than filters of one size?

Digits at random sizes, 8 to 32 pixels, in the middle of a canvas of 32x32, tokens of 2x2 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anyformer.claims._images import accuracy, canvases, fit, images_task
from anyformer.core.scale import scale_to
from anyformer.core.spec import Spec
from anyformer.data.digits import digits
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="Where things appear at many sizes, modulation by filters of several sizes beats that by 3x3 filters.",
    baseline=(
        "The same blocks with a 3x3 filter for every channel, scaled to as many parameters; the same steps and "
        "learning rate."
    ),
    expect=(Expect("mixed_minus_single", at_least=1.5, unit="points of test accuracy"),),
    seeds=(1, 2, 3),
)
EPOCHS = 8


def model(kernels: Sequence[int]) -> Spec:
    """Two blocks of scale-aware modulation on tokens of 2x2 pixels."""
    mixer = Spec("scale_aware", kernels=tuple(kernels))
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp", ratio=2.0))
    return Spec("isotropic", dim=32, depth=2, block=block, embed=Spec("patch", size=2))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with mixed filters and with 3x3 filters alone."""
    generator = torch.Generator().manual_seed(seed)
    parts = {split: (canvases(images, generator), labels) for split, (images, labels) in digits().items()}
    task = images_task(parts, classes=10)
    options = task.model_options()
    mixed = model((3, 5, 7, 9))
    single = scale_to(model((3,)), create_model(mixed, **options).num_parameters(), **options)
    found = {
        name: 100 * accuracy(fit(spec, task, seed, EPOCHS, learning_rate=3e-3), task)
        for name, spec in (("mixed", mixed), ("single", single))
    }
    return found | {"mixed_minus_single": found["mixed"] - found["single"]}
