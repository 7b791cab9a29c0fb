"""PredFormer: moving squares, predicted by blocks over space and time, and by blocks over space alone.

A bright square of 4x4 pixels moves across a frame of 16x16 at a constant speed and bounces at its borders; five
frames are given and the next five asked for. Where it goes stands only in how it came: no frame alone tells. The
interleaved layout, which the paper settles on, is held against copying; every layout against space alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._signals import fit
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.science.predformer import predformer

CLAIM = Claim(
    statement="Gated transformers over space and time predict where moving squares go: the error is at most half of "
    "that of copying the last frame, and layouts of both beat blocks over space alone.",
    baseline="Copying the last frame; and the same network, as deep and trained alike, with every block over space.",
    expect=(
        Expect("error_of_copying", at_most=0.5, unit="squared error of binary_ts, as a share of copying's"),
        Expect("gain_over_space", at_least=20.0, unit="percent less error than space alone, of every layout"),
    ),
    seeds=(1,),
)
FRAMES, SIDE, SQUARE = 5, 16, 4
ARMS = ("binary_ts", "facst")
DEPTH, STEPS, RATE = 4, 700, 3e-3
TRAIN, TEST = 4096, 512


def squares(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Videos `(count, 5, 1, 16, 16)` and their next five frames."""
    generator = torch.Generator().manual_seed(seed)
    room = SIDE - SQUARE
    start = torch.rand(count, 1, 2, generator=generator) * room
    angle = torch.rand(count, 1, generator=generator) * 2 * torch.pi
    speed = torch.rand(count, 1, generator=generator) + 0.5
    steps = torch.stack([angle.cos(), angle.sin()], -1) * speed[..., None]
    way = start + steps * torch.arange(2 * FRAMES)[:, None]
    corner = room - (way.remainder(2 * room) - room).abs()  # a reflected way is a folded straight one
    pixels = torch.arange(SIDE)
    # How much of a pixel the square covers along each axis.
    low, high = corner[..., None], corner[..., None] + SQUARE
    cover = (torch.minimum(high, pixels + 1) - torch.maximum(low, pixels.float())).clamp(0, 1)
    frames = cover[..., 0, :, None] * cover[..., 1, None, :]
    return frames[:, :FRAMES, None], frames[:, FRAMES:, None]


def network(layout: str) -> nn.Module:
    """Four blocks of 64 channels over patches of 8x8 pixels; "space" is a layout without time."""
    spec = predformer("binary_ts" if layout == "space" else layout, DEPTH, dim=64, heads=4, ratio=2.0, patch=8)
    spec = spec.set(frames=FRAMES, image_size=SIDE, init="fan_in")
    return create_model(spec.swap("mixer", Spec("space_attention", heads=4, bias=False)) if layout == "space" else spec)


def measure(seed: int) -> dict[str, float]:
    """Mean squared errors on new videos: of copying, of each layout, and of space alone."""
    given, wanted = squares(TRAIN, 1000 + seed)
    new, truth = squares(TEST, 2000 + seed)
    found = {"copying": float(F.mse_loss(new[:, -1:].expand_as(truth), truth))}
    for layout in (*ARMS, "space"):
        torch.manual_seed(seed)
        model = fit(
            network(layout),
            lambda net, rows: F.mse_loss(net(given[rows]), wanted[rows]),
            TRAIN,
            steps=STEPS,
            rate=RATE,
            seed=seed,
        )
        with torch.no_grad():
            found[layout] = float(F.mse_loss(model(new), truth))
    worst = max(found[layout] for layout in ARMS)
    return found | {
        "error_of_copying": found["binary_ts"] / found["copying"],
        "gain_over_space": 100 * (1 - worst / found["space"]),
    }
