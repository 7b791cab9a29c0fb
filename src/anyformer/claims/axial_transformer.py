"""Ho et al. 2019, arXiv:1912.12180: attention along rows and columns models an image's pixels in full.

Handwritten digits of 8x8 pixels, each black or white: how many bits a pixel costs on new images. An independent-pixel
model knows how often each pixel is white; a model of rows alone knows the pixels to the left, and rows nothing of each
other. Both networks have four layers of the same width, are trained alike, and are taken where the validation part
costs least.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from anyformer.claims._signals import fit
from anyformer.data.digits import MEAN, STD, digits
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.generation.axial_transformer import bits_per_dimension

CLAIM = Claim(
    statement="An Axial Transformer of row and column attention needs fewer bits a pixel than one of rows alone, and "
    "at least 0.05 fewer than independent pixels.",
    baseline="The frequency of each pixel; and as many layers of masked row attention without an outer decoder.",
    expect=(
        Expect("gain_over_pixels", at_least=0.05, unit="bits a pixel"),
        Expect("gain_over_rows", at_least=0.0, unit="bits a pixel"),
    ),
    seeds=(1, 2, 3),
)
ARMS = {"axial": {"outer": 2, "inner": 2}, "rows": {"outer": 0, "inner": 4}}
ROUNDS, STEPS, RATE = 2, 60, 3e-3


def pixels(split: str) -> Tensor:
    """`(n, 1, 8, 8)` of 0 and 1: whether a pixel is at least half as bright as the brightest."""
    return (digits()[split][0] * STD + MEAN >= 0.5).long()


def independent(train: Tensor, test: Tensor) -> float:
    """Bits a pixel of knowing each pixel's frequency; one image of each colour added, so that none is impossible."""
    white = (train.double().sum(0) + 1) / (len(train) + 2)
    return float(-torch.where(test == 1, white.log2(), (1 - white).log2()).mean())


def measure(seed: int) -> dict[str, float]:
    """Bits a pixel on the test part, of each arm."""
    train, valid, test = (pixels(split) for split in ("train", "valid", "test"))
    found = {"pixels": independent(train, test)}
    log2 = float(torch.log(torch.tensor(2.0)))
    for arm, layers in ARMS.items():
        torch.manual_seed(seed)
        model = create_model("axial_transformer_micro", levels=2, dropout=0.1, **layers)
        best, kept = float("inf"), model
        for part in range(ROUNDS):
            fit(
                model,
                lambda net, rows: bits_per_dimension(net, train[rows]) * log2,
                len(train),
                steps=STEPS,
                rate=RATE / 2**part,
                seed=1000 * part + seed,
            )
            with torch.no_grad():
                cost = float(bits_per_dimension(model, valid))
            if cost < best:
                best, kept = cost, copy.deepcopy(model)
        with torch.no_grad():
            found[arm] = float(bits_per_dimension(kept, test))
    return found | {
        "gain_over_pixels": found["pixels"] - found["axial"],
        "gain_over_rows": found["rows"] - found["axial"],
    }
