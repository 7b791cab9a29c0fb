"""Hsu et al. 2024, arXiv:2404.00722: dense connections inside groups keep detail, so super-resolution gets no worse."""

from __future__ import annotations

import torch
from torch import nn

from anyformer.claims._restoration import trained
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model, model_spec
from anyformer.tasks.restoration import Restoration

CLAIM = Claim(
    statement="A small DRCT enlarges photographs better than bicubic enlargement, and no worse than SwinIR.",
    baseline="SwinIR's body of plain residual groups, as many parameters within 3 %, trained alike; and bicubic.",
    expect=(
        Expect("drct_minus_bicubic", at_least=0.5, unit="dB PSNR"),
        Expect("drct_minus_swinir", at_least=-0.1, unit="dB PSNR"),
    ),
    seeds=(11,),  # it chose neither steps nor rates
)
STEPS, BATCH, RATES = 700, 8, (3e-3,)
SIDE = 32


def swinir(parameters: int) -> Spec:
    """DRCT's frame around plain groups of as many layers, their MLPs so wide that the number of parameters is equal."""

    def body(ratio: float) -> Spec:
        layers = [
            Spec(
                "prenorm",
                mixer=Spec("window", heads=2, window=4, shift=shift, cap=True),
                ffn=Spec("mlp", ratio=ratio),
            )
            for shift in ("none", "half", "none")
        ]
        return model_spec("drct_micro").set(block=Spec("residual_group", blocks=layers))

    ratios = [n / 24 for n in range(12, 240)]
    return min((body(r) for r in ratios), key=lambda spec: abs(size(spec) - parameters))


def size(spec: Spec) -> int:
    with torch.device("meta"):
        return create_model(spec).num_parameters()


def intensity(model: nn.Module, task: Restoration) -> list[float]:
    """The largest feature after every group, in absolute value, over some test images."""
    batch = task.sample("test", torch.arange(8))
    with torch.no_grad():
        return [float(m.abs().max()) for m in model.features(batch["degraded"])]


def measure(seed: int) -> dict[str, float]:
    """PSNR on photographs that were not trained on, and the largest features of each group of both bodies."""
    task = Restoration(degradation="superresolution_x2", image_size=SIDE, measured_size=64, channels=3, samples=1024)
    drct = model_spec("drct_micro")
    specs = {"drct": drct, "swinir": swinir(size(drct))}
    found = {"bicubic": task.baseline("test").value, "parameters_ratio": size(specs["swinir"]) / size(drct)}
    for name, spec in specs.items():
        model = trained(lambda spec=spec: create_model(spec), task, seed, steps=STEPS, rates=RATES, batch_size=BATCH)
        found[name] = float(task.evaluate(model, "test")["psnr"])
        found |= {f"{name}_group{i + 1}_largest": v for i, v in enumerate(intensity(model, task))}
    return found | {
        "drct_minus_bicubic": found["drct"] - found["bicubic"],
        "drct_minus_swinir": found["drct"] - found["swinir"],
    }
