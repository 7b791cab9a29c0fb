"""Perera et al. 2024, arXiv:2404.10156: SegFormer3D segments volumes as well as nets of several times its size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anyformer.claims._segmentation import measured
from anyformer.core.spec import Spec
from anyformer.data.segmentation import SPHERES, spheres
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model
from anyformer.models.dense.segformer3d import segformer3d
from anyformer.tasks.segmentation import SemanticSegmentation, generated

CLAIM = Claim(
    statement="On volumes of two spheres in noise, a small SegFormer3D is as good as a 3D U-Net of three times its "
    "parameters.",
    baseline="A 3D U-Net of 3x3x3 convolutions with at least three times as many parameters, trained alike.",
    expect=(
        Expect("segformer3d_dice", at_least=0.85, unit="mean Dice of the two spheres"),
        Expect("segformer3d_minus_unet", at_least=-0.03, unit="mean Dice of the two spheres"),
        Expect("parameter_ratio", at_least=3.0, unit="U-Net's parameters per parameter of SegFormer3D"),
    ),
    seeds=(1,),
)
SIDE, STEPS, BATCH, RATES = 32, 200, 4, (3e-3, 1e-2)
VOLUMES = (192, 24, 48)


class UNet(nn.Module):
    """Two 3x3x3 convolutions with batch norm and ReLU at each of four resolutions, down and up again.

    Cicek et al. 2016, arXiv:1606.06650, figure 2.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        widths = (dim, 2 * dim, 4 * dim, 8 * dim)
        self.down = nn.ModuleList(convolutions(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True))
        self.larger = nn.ModuleList(nn.ConvTranspose3d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(convolutions(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv3d(dim, classes, 1)

    def forward(self, volumes: Tensor) -> Tensor:
        skips, x = [], self.down[0](volumes)
        for blocks in list(self.down)[1:]:
            skips.append(x)
            x = blocks(nn.functional.max_pool3d(x, 2))
        for larger, blocks, skip in zip(self.larger, self.up, reversed(skips), strict=True):
            x = blocks(torch.cat([larger(x), skip], 1))
        return self.head(x)


def convolutions(inputs: int, dim: int) -> nn.Sequential:
    """Two convolutions with norm and activation."""
    layers: list[nn.Module] = []
    for a in (inputs, dim):
        layers += [nn.Conv3d(a, dim, 3, padding=1, bias=False), nn.BatchNorm3d(dim), nn.ReLU()]
    return nn.Sequential(*layers)


def small() -> Spec:
    """A SegFormer3D of three stages at reduced widths."""
    spec = segformer3d(
        (16, 32, 48),
        (1, 1, 1),
        (1, 2, 3),
        reductions=(2, 1, 1),
        patch=2,
        ratio=2.0,
        dim=32,
        side=SIDE,
        in_channels=1,
        num_classes=len(SPHERES),
    )
    return spec.set(init="fan_in")


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def spheres_dice(found: dict[str, Any]) -> float:
    """The mean Dice of the two spheres, without the ground."""
    return sum(found["classes"][name]["f1"] for name in SPHERES[1:]) / (len(SPHERES) - 1)


def measure(seed: int) -> dict[str, float]:
    """Dice of both on volumes that were not trained on, and how many parameters they have."""
    task = SemanticSegmentation(generated(spheres, SIDE, seed, VOLUMES), SPHERES, (1, *[SIDE] * 3))
    parameters = size(create_model(small()))
    width = next(w for w in range(2, 64) if size(UNet(w, len(SPHERES))) >= 3 * parameters)
    arms = {"segformer3d": lambda: create_model(small()), "unet": lambda: UNet(width, len(SPHERES))}
    dice = {
        name: spheres_dice(measured(make, task, seed, steps=STEPS, rates=RATES, batch_size=BATCH))
        for name, make in arms.items()
    }
    return {
        "segformer3d_dice": dice["segformer3d"],
        "unet_dice": dice["unet"],
        "segformer3d_minus_unet": dice["segformer3d"] - dice["unet"],
        "parameter_ratio": size(UNet(width, len(SPHERES))) / parameters,
    }
