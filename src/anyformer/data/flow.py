"""Pairs of frames whose motion is known, generated from photographs."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.errors import OptionError
from anyformer.data.restoration import photographs, places
from anyformer.data.seeds import uniform
from anyformer.data.splits import SPLITS
from anyformer.kernels.correlation.plain import sample

Motion = Literal["smooth", "shift"]
Frames = dict[str, Tensor]
"""Of a batch: "first", "second" `(b, c, h, w)` in [-1, 1]; "flow" `(b, 2, h, w)`, (right, down) in pixels from each
pixel of the first frame to its match in the second; "valid" `(b, h, w)`, true where it is known."""


class GeneratedPairs:
    """Squares of photographs, and the same squares moved by a known field.

    The second frame is a square of a photograph I; the first is I(x + flow(x)), linear between pixels, so that the
    truth is exact at every pixel of the first frame. What leaves the second frame counts too.

    Args:
        side: of the frames, in pixels.
        reach: the longest motion, in pixels.
        motion: "shift" moves all pixels alike, by a length uniform in [0, reach] in any direction; "smooth" adds
            rotation, scaling and shear to a shift, and a field that varies over the square.
        channels: 3 or 1.
        samples: pairs of an epoch of training; an eighth as many to choose by and to test. No photograph is in two
            parts; in training, places and motions are drawn anew each epoch.
    """

    def __init__(self, side: int, reach: float, motion: Motion, channels: int, samples: int):
        if side < 8 or not 0 < reach <= side:
            raise OptionError(f"image_size is at least 8 and reach above 0 and at most that; given {side} and {reach}.")
        if motion not in ("smooth", "shift"):
            raise OptionError(f"motion is 'smooth' or 'shift'; given {motion!r}.")
        if samples < 8:
            raise OptionError(f"an epoch has at least 8 pairs; given samples={samples}.")
        self.side, self.reach = side, float(reach)
        self.motion: Motion = motion
        self.parts = {split: part.clean for split, part in photographs(channels).items()}
        self.margin = math.ceil(reach) + 1
        whole = side + 2 * self.margin
        least = min(min(image.shape[1:]) for part in self.parts.values() for image in part)
        if whole > least:
            raise OptionError(
                f"pairs of {side} pixels with motions of {reach:g} are cut out of squares of {whole}; the smallest "
                f"photograph has {least}: take a smaller image_size or reach."
            )
        self.sizes = {split: samples if split == "train" else samples // 8 for split in SPLITS}
        self.what = f"photographs moved by a {motion} field of up to {reach:g} pixels"

    def batch(self, split: str, indices: Tensor, seeds: Tensor, train: bool) -> Frames:
        """The pairs of these seeds."""
        part, whole, m = self.parts[split], self.side + 2 * self.margin, self.margin
        squares = []
        for index, seed in zip(indices.tolist(), seeds, strict=True):
            image = part[index % len(part)]
            ((y, x),) = places(image.shape, whole, seed[None])
            squares.append(image[:, y : y + whole, x : x + whole])
        wide = torch.stack(squares).float() / 127.5 - 1
        flow = field(seeds, self.side, self.reach, self.motion)
        steps = torch.arange(self.side, dtype=torch.float32) + m
        here = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        first = sample(wide, here + flow.movedim(1, -1))
        second = wide[:, :, m:-m, m:-m].contiguous()
        valid = torch.ones(len(flow), self.side, self.side, dtype=torch.bool)
        return {"first": first, "second": second, "flow": flow, "valid": valid}


def field(seeds: Tensor, side: int, reach: float, motion: Motion) -> Tensor:
    """Motions `(b, 2, side, side)` in pixels, none longer than `reach`; each follows from its seed alone."""

    def drawn(stream: int) -> Tensor:
        return uniform(seeds, stream).float()

    angle = 2 * math.pi * drawn(10)
    shift = torch.stack([angle.cos(), angle.sin()], 1) * (reach * drawn(11))[:, None]
    if motion == "shift":
        return shift[:, :, None, None].expand(-1, -1, side, side).contiguous()
    steps = torch.linspace(-1, 1, side)
    x, y = torch.meshgrid(steps, steps, indexing="xy")
    turn = torch.stack([drawn(k) * 0.6 - 0.3 for k in range(12, 16)], 1).view(-1, 2, 2)
    linear = torch.einsum("bij,jhw->bihw", turn, torch.stack([x, y])) * reach
    coarse = torch.stack([drawn(k) * 0.5 - 0.25 for k in range(16, 34)], 1).view(-1, 2, 3, 3) * reach
    bent = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    flow = 0.6 * shift[:, :, None, None] + linear + bent
    longest = flow.square().sum(1).sqrt().flatten(1).amax(1)
    return flow * (reach / longest.clamp(min=reach))[:, None, None, None]
