"""t2: synthetic light curves of three kinds, seen at irregular times in three bands.

A burst somewhere in 100 days rises and decays: fast rise and slow decay, slow rise and fast decay, or both alike; its
brightness and its pace vary, and the bands differ in brightness. Some 46 times are seen, in a band each, with noise and
a gap. The same network gets either the Gaussian process's grid of 50 times and 3 bands, or the observations in their
nearest places of that grid and zeros elsewhere. The event lasts from two times of rise before the peak to two of decay
after it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._signals import fit
from anyformer.data.light_curves import LightCurve, bins, interpolate
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A transformer classifies light curves on a Gaussian process's grid well, makes use of an extra feature, "
    "and its activation map points at the event.",
    baseline="The same network, trained alike, on zero-filled raw bins; and without the extra feature.",
    expect=(
        Expect("accuracy", at_least=90.0, unit="percent after interpolation"),
        Expect("gain_over_bins", at_least=5.0, unit="points of accuracy"),
        Expect("loss_saved_by_extra", at_least=5.0, unit="percent of log-loss"),
        Expect("map_at_event", at_least=80.0, unit="percent of test curves whose map peaks within the event"),
    ),
    seeds=(1, 2, 3),
)
WAVES = (4800.0, 6200.0, 7500.0)
DAYS, GRID = 100.0, np.linspace(0, 100, 50)
PACES = ((3.0, 15.0), (15.0, 3.0), (8.0, 8.0))
"""Days of rise and of decay of each class."""
TRAIN, TEST, STEPS, RATE = 1500, 500, 400, 3e-3


def draw_curves(count: int, seed: int) -> tuple[list[LightCurve], Tensor, Tensor, Tensor]:
    """Curves, classes `(b,)`, an extra feature `(b, 1)` that tells something of the class, events `(b, 2)` in days."""
    draw = np.random.default_rng(seed)
    curves, events = [], np.zeros((count, 2))
    classes = draw.integers(3, size=count)
    for i, kind in enumerate(classes):
        pace = float(draw.uniform(0.8, 1.25))
        rise, decay = (days * pace for days in PACES[kind])
        peak = float(draw.uniform(35, 65))
        nights = np.sort(draw.choice(np.arange(0, DAYS, 0.5), 50, replace=False))
        gap = float(draw.uniform(0, DAYS - 10))
        nights = nights[(nights < gap) | (nights > gap + 8)]
        bands = draw.integers(3, size=len(nights))
        bright = np.exp(draw.normal(0, 0.3)) * np.array([1.0, 0.8, 0.6])[bands]
        before = nights < peak
        shape = np.exp(-np.abs(nights - peak) / np.where(before, rise, decay))
        values = bright * shape + draw.normal(0, 0.05, len(nights))
        curves.append(LightCurve(nights, bands, values, np.full(len(nights), 0.05)))
        events[i] = peak - 2 * rise, peak + 2 * decay
    extra = classes[:, None] + draw.normal(0, 1.0, (count, 1))
    return curves, torch.from_numpy(classes), torch.tensor(extra, dtype=torch.float32), torch.from_numpy(events)


def scaled(grids: list[np.ndarray]) -> Tensor:
    """Curves `(b, 50, 3)`, each divided by its largest value."""
    stacked = torch.tensor(np.stack(grids), dtype=torch.float32)
    return stacked / stacked.abs().amax((1, 2), keepdim=True)


def network(extra: int) -> nn.Module:
    return create_model("t2_micro", extra=extra, join="pooled")


def measure(seed: int) -> dict[str, float]:
    """Accuracy and log-loss of the three arms on new curves, and where the map of the first one peaks."""
    torch.manual_seed(seed)
    curves, classes, extra, _ = draw_curves(TRAIN, 1000 + seed)
    new, truth, new_extra, events = draw_curves(TEST, 2000 + seed)
    data = {
        "interpolated": [scaled([interpolate(c, GRID, WAVES) for c in part]) for part in (curves, new)],
        "bins": [scaled([bins(c, GRID, 3) for c in part]) for part in (curves, new)],
    }

    def train(inputs: Tensor, beside: Tensor | None) -> nn.Module:
        torch.manual_seed(seed)

        def loss(net: nn.Module, rows: Tensor) -> Tensor:
            given = (inputs[rows],) if beside is None else (inputs[rows], beside[rows])
            return F.cross_entropy(net(*given), classes[rows])

        return fit(network(0 if beside is None else 1), loss, TRAIN, steps=STEPS, rate=RATE, seed=seed)

    found: dict[str, float] = {}
    with torch.no_grad():
        for name, (known, asked) in data.items():
            with torch.enable_grad():
                model = train(known, None)
            logits = model(asked)
            found[f"accuracy_{name}"] = 100 * float((logits.argmax(-1) == truth).float().mean())
            if name == "interpolated":
                found["loss"] = float(F.cross_entropy(logits, truth))
                shares, _ = model.activation_map(asked)
                own = shares.gather(2, logits.argmax(-1)[:, None, None].expand(-1, len(GRID), 1))[..., 0]
                at = torch.from_numpy(GRID)[own.argmax(1)]
                inside = (at >= events[:, 0]) & (at <= events[:, 1])
                found["map_at_event"] = 100 * float(inside.float().mean())
        with torch.enable_grad():
            model = train(data["interpolated"][0], extra)
        found["loss_with_extra"] = float(F.cross_entropy(model(data["interpolated"][1], new_extra), truth))
    return found | {
        "accuracy": found["accuracy_interpolated"],
        "gain_over_bins": found["accuracy_interpolated"] - found["accuracy_bins"],
        "loss_saved_by_extra": 100 * (1 - found["loss_with_extra"] / found["loss"]),
    }
