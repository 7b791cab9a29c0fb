"""Wang et al. 2021, arXiv:2106.03106: a U-shape of window attention denoises as well as one of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.claims._restoration import trained
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model
from anyformer.models.restoration.uformer import uformer
from anyformer.tasks.restoration import Restoration

CLAIM = Claim(
    statement="A Uformer of 8 channels takes noise of 25/255 off photographs, no worse than a convolutional U-Net.",
    baseline="A U-Net of residual 3x3 convolutions, with at least as many parameters, trained alike.",
    expect=(
        Expect("uformer_minus_noisy", at_least=3.0, unit="dB PSNR"),
        Expect("uformer_minus_unet", at_least=-0.2, unit="dB PSNR"),
    ),
    seeds=(11, 12),  # these chose neither steps nor rates
)
STEPS, BATCH, RATES = 400, 1, (3e-3, 6e-3)
SIDE = 64


class Convolutions(nn.Module):
    """Two 3x3 convolutions with leaky ReLUs, and a 1x1 convolution beside them."""

    def __init__(self, inputs: int, dim: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, dim, 3, padding=1), nn.Conv2d(dim, dim, 3, padding=1)
        self.beside = nn.Conv2d(inputs, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.leaky_relu(self.first(x))
        return nn.functional.leaky_relu(self.second(y)) + self.beside(x)


class UNet(nn.Module):
    """The U-Net that the authors compare with, three stages deep: the same samplings as Uformer's, and its residual."""

    def __init__(self, dim: int):
        super().__init__()
        widths = (dim, 2 * dim, 4 * dim)
        self.down = nn.ModuleList(Convolutions(a, b) for a, b in zip((3, *widths[:2]), widths, strict=True))
        self.smaller = nn.ModuleList(nn.Conv2d(w, w, 4, stride=2, padding=1) for w in widths[:2])
        self.larger = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:2]))
        self.up = nn.ModuleList(Convolutions(2 * w, w) for w in reversed(widths[:2]))
        self.head = nn.Conv2d(dim, 3, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)  # near the identity at first, as the Uformer

    def forward(self, images: Tensor) -> Tensor:
        skips, x = [], self.down[0](images)
        for smaller, blocks in zip(self.smaller, list(self.down)[1:], strict=True):
            skips.append(x)
            x = blocks(smaller(x))
        for larger, blocks, skip in zip(self.larger, self.up, reversed(skips), strict=True):
            x = blocks(torch.cat([larger(x), skip], 1))
        return images + self.head(x)


def small() -> Spec:
    """A Uformer of 8 channels with three stages."""
    spec = uformer(8, (1, 2, 2, 2, 1), ratio=2.0, drop_path=0.0, image_size=SIDE)
    return spec.set(init="fan_in", head=Spec("map_head", kernel=3, std=0.01))


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def measure(seed: int) -> dict[str, float]:
    """PSNR on photographs that were not trained on: both models, and the noisy image."""
    task = Restoration(image_size=SIDE, measured_size=SIDE, samples=512)
    parameters = size(create_model(small()))
    width = next(w for w in range(4, 64) if size(UNet(w)) >= parameters)
    found = {"noisy": task.baseline("test").value}
    for name, make in (("uformer", lambda: create_model(small())), ("unet", lambda: UNet(width))):
        model = trained(make, task, seed, steps=STEPS, rates=RATES, batch_size=BATCH)
        found[name] = float(task.evaluate(model, "test")["psnr"])
    return found | {
        "uformer_minus_noisy": found["uformer"] - found["noisy"],
        "uformer_minus_unet": found["uformer"] - found["unet"],
    }
