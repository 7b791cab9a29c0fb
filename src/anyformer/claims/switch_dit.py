"""Switch-DiT: the prior loss makes neighbouring times share experts and distant ones not, at no cost in denoising.

A small Switch-DiT with the prior loss, the same without it, and the DiT that both are without experts learn to take
noise off the digits: equal steps, images, times and noise. Then every pair of the 1000 times is compared by the overlap
of the experts that they activate, |A and B| / |A or B| over all blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._signals import fit
from anyformer.core.penalty import take_penalties
from anyformer.data.digits import MEAN, STD, digits
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.decoding.diffusion import Diffusion
from anyformer.models.factory import create_model
from anyformer.models.generation.switch_dit import SwitchDiT

CLAIM = Claim(
    statement="With the prior loss, times nearer than a tenth of the diffusion share experts by 0.2 more than times "
    "further apart than half of it, and by more than without that loss; denoising is no more than 2% worse than DiT's.",
    baseline="The same model without the prior loss, for the sharing; the DiT without experts, for denoising.",
    expect=(
        Expect("contrast", at_least=0.2, unit="mean Jaccard overlap of near times minus that of distant ones"),
        Expect("contrast_gained", at_least=1e-3, unit="contrast over that without the prior loss"),
        Expect("loss_over_dit", at_most=2.0, unit="percent of held-out squared error of the noise"),
    ),
    seeds=(1, 2),
)
ARMS = {"prior": ("switch_dit_micro", 1.0), "free": ("switch_dit_micro", 0.0), "dit": ("dit_micro", None)}
STEPS, RATE, TIMESTEPS = 520, 2e-3, 1000


def images(split: str) -> tuple[Tensor, Tensor]:
    """Digits in [-1, 1] and their labels."""
    pixels, labels = digits()[split]
    return (pixels * STD + MEAN) * 2 - 1, labels


def contrast(model: SwitchDiT) -> float:
    """Mean overlap of the experts of two times nearer than T/10, minus that of times further apart than T/2."""
    with torch.no_grad():
        masks = model.masks(model.time(torch.arange(TIMESTEPS)))
    both = masks @ masks.T
    counts = masks.sum(1)
    overlap = both / (counts[:, None] + counts - both)
    apart = (torch.arange(TIMESTEPS)[:, None] - torch.arange(TIMESTEPS)).abs()
    near = (apart > 0) & (apart < TIMESTEPS / 10)
    return float(overlap[near].mean() - overlap[apart > TIMESTEPS / 2].mean())


def measure(seed: int) -> dict[str, float]:
    """The contrast of both Switch-DiTs, and the held-out loss of all three."""
    process = Diffusion("linear", TIMESTEPS)
    clean, labels = images("train")
    new, new_labels = images("test")
    held = torch.Generator().manual_seed(1000 + seed)
    times = torch.randint(TIMESTEPS, (8, len(new)), generator=held)
    noises = torch.randn(8, *new.shape, generator=held)
    found: dict[str, float] = {}
    for arm, (name, weight) in ARMS.items():
        draws = torch.Generator().manual_seed(seed)  # each arm sees the same times and noise

        def loss(net: torch.nn.Module, rows: Tensor, draws: torch.Generator = draws) -> Tensor:
            step = torch.randint(TIMESTEPS, (len(rows),), generator=draws)
            noise = torch.randn(clean[rows].shape, generator=draws)
            x = process.add_noise(clean[rows], step, noise)
            value = process.loss(net(x, step, labels[rows]), x, clean[rows], step, noise).mean()
            penalty = take_penalties(net)
            return value if penalty is None else value + penalty

        torch.manual_seed(seed)
        model = create_model(name) if weight is None else create_model(name, prior_weight=weight)
        torch.manual_seed(seed)  # labels are dropped alike
        fit(model, loss, len(clean), steps=STEPS, rate=RATE, seed=seed)
        with torch.no_grad():
            errors = []
            for step, noise in zip(times, noises, strict=True):
                x = process.add_noise(new, step, noise)
                errors.append(process.loss(model(x, step, new_labels), x, new, step, noise).mean())
        found[f"loss_{arm}"] = float(torch.stack(errors).mean())
        if isinstance(model, SwitchDiT):
            found[f"contrast_{arm}"] = contrast(model)
    return found | {
        "contrast": found["contrast_prior"],
        "contrast_gained": found["contrast_prior"] - found["contrast_free"],
        "loss_over_dit": 100 * (found["loss_prior"] / found["loss_dit"] - 1),
    }
