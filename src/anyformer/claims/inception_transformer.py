"""Inception Transformer: does a path for high frequencies beside attention tell textures that attention alone misses?

Squares of 32x32 pixels from six photographs in scikit-image, one class each, 64 to learn from in each class; each is
brought to mean 0 and deviation 1 and gets a random smooth shading, so that brightness says nothing. Test squares come
from other rows of the photographs than those for training.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.errors import require
from anyformer.core.scale import scale_to
from anyformer.core.spec import Spec
from anyformer.data.images import read_whole_image
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="Convolution and max-pooling beside pooled attention tell textures better than attention alone.",
    baseline="The same blocks with attention in all heads, scaled to as many parameters; the same steps and rate.",
    expect=(
        Expect("mixed_minus_attention", at_least=2.0, unit="points of test accuracy"),
        Expect("spectrum_difference", at_least=0.0, unit="share of energy above half Nyquist, high path minus low"),
    ),
    seeds=(1, 2, 3),
)
PHOTOGRAPHS = ("brick.png", "grass.png", "gravel.png", "ihc.png", "hubble_deep_field.jpg", "coins.png")
SIDE, EPOCHS, SHADING = 32, 40, 1.0
COUNTS = {"train": (64, 0.0, 0.6), "valid": (32, 0.6, 0.75), "test": (128, 0.75, 1.0)}
"""Squares of each class, and the rows of the photograph that they come from."""


def textures(generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Squares `(n, 1, 32, 32)` and their classes, by part."""
    folder = Path(require("skimage", "vision").__file__).parent / "data"
    photographs = [read_whole_image(folder / name, 1)[0].float() for name in PHOTOGRAPHS]
    parts = {}
    for split, (count, first, last) in COUNTS.items():
        squares, labels = [], []
        for label, photograph in enumerate(photographs):
            height, width = photograph.shape
            low, high = int(first * height), int(last * height) - SIDE
            rows = torch.randint(low, high, (count,), generator=generator).tolist()
            columns = torch.randint(0, width - SIDE, (count,), generator=generator).tolist()
            squares += [photograph[r : r + SIDE, c : c + SIDE] for r, c in zip(rows, columns, strict=True)]
            labels += [label] * count
        images = torch.stack(squares)[:, None]
        deviation, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        coarse = torch.randn(len(images), 1, 3, 3, generator=generator)
        shading = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
        parts[split] = ((images - mean) / deviation.clamp(min=1.0) + SHADING * shading, torch.tensor(labels))
    return parts


def model(mixer: Spec) -> Spec:
    """Two blocks on tokens of 4x4 pixels."""
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp", ratio=2.0))
    embed = Spec("patch", size=4)
    return Spec("isotropic", dim=32, depth=2, block=block, embed=embed, position=Spec("learned"))


def above_half_nyquist(x: Tensor) -> float:
    """Share of the energy of `(b, h, w, c)`, without its mean, at frequencies above a quarter cycle per token."""
    power = torch.fft.fft2(x.detach(), dim=(1, 2)).abs().square()
    power[:, 0, 0] = 0
    rows, columns = (torch.fft.fftfreq(n).abs() for n in x.shape[1:3])
    high = torch.maximum(rows[:, None], columns[None]) > 0.25
    return float(power[:, high].sum() / power.sum())


def spectrum_difference(module: nn.Module, images: Tensor) -> float:
    """How much more of its energy the high path gives at high frequencies than the low path, mean over the blocks."""
    _, taps = module(images, taps=["*.mixer.high", "*.mixer.low"])
    shares = {
        path: fmean(above_half_nyquist(x) for name, x in taps.items() if name.endswith(path))
        for path in ("high", "low")
    }
    return shares["high"] - shares["low"]


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of both, and the spectra of the two paths on test images."""
    parts = textures(torch.Generator().manual_seed(seed))
    task = images_task(parts, classes=len(PHOTOGRAPHS))
    options = task.model_options()
    mixed = model(Spec("inception", heads=4, attention=2))
    attention = scale_to(model(Spec("attention", heads=4)), create_model(mixed, **options).num_parameters(), **options)
    modules = {
        name: fit(spec, task, seed, EPOCHS, learning_rate=3e-3)
        for name, spec in (("mixed", mixed), ("attention", attention))
    }
    found = {name: 100 * accuracy(module, task) for name, module in modules.items()}
    return found | {
        "mixed_minus_attention": found["mixed"] - found["attention"],
        "spectrum_difference": spectrum_difference(modules["mixed"], parts["test"][0][:64]),
    }
