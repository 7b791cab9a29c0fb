"""Drivers with open or closed eyes, generated: a face somewhere in a cluttered frame."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import OptionError
from anyformer.data.segmentation import ground

STATES = ("awake", "drowsy", "none")
"""Classes of frames: eyes open, eyes closed, nobody."""

OVERSAMPLING = 4
"""Frames are drawn so many times larger and then reduced."""

SKIN, WHITE, DARK = (222, 176, 142), (250, 250, 250), (40, 30, 30)


def frames(
    count: int, size: int, seed: int, *, nobody: float = 0.1
) -> tuple[Float[Tensor, "n 3 s s"], Float[Tensor, "n 4"], Tensor]:
    """Frames in [0, 1], the faces' boxes `(n, 4)`, and states `(n,)` as numbers of `STATES`.

    A face is a disc of 1/10 to 1/6 of the side in radius, with two eyes: white with a pupil, or a dark line. Eyes of
    both kinds, rectangles and discs of other colours lie about as clutter, so that counting them tells nothing.

    Args:
        nobody: share of frames without a face; their boxes are 0.

    Returns boxes as centre and size, shares of the frame. Raises `OptionError` for sides below 32.
    """
    if size < 32 or not 0 <= nobody < 1:
        raise OptionError(f"frames have sides of 32 pixels or more, and faces in some; given {size}, nobody={nobody}.")
    images, boxes = np.empty((count, 3, size, size), np.float32), np.zeros((count, 4), np.float32)
    states = np.empty(count, np.int64)
    for i in range(count):
        random = np.random.RandomState((seed * 1_000_003 + i) % 2**32)  # its streams never change
        states[i] = 2 if random.uniform() < nobody else random.randint(2)
        images[i], boxes[i] = frame(random, size, int(states[i]))
    return torch.from_numpy(images), torch.from_numpy(boxes), torch.from_numpy(states)


def frame(random: np.random.RandomState, size: int, state: int) -> tuple[np.ndarray, tuple[float, ...]]:
    """One frame `(3, size, size)` and the face's box, zeros for nobody."""
    from PIL import Image, ImageDraw

    side = size * OVERSAMPLING
    floor = (np.clip(ground(random, size), 0, 1) * 160).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(floor)).resize((side, side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    for _ in range(random.randint(4, 9)):
        (x, y), (w, h) = random.uniform(0, side, 2), random.uniform(side / 16, side / 5, 2)
        colour = tuple(random.randint(0, 200, 3).tolist())
        draw = pen.rectangle if random.randint(2) else pen.ellipse
        draw([x, y, x + w, y + h], fill=colour)
    for _ in range(random.randint(4, 9)):
        x, y = random.uniform(0, side, 2)
        eye(pen, x, y, side * random.uniform(1 / 60, 1 / 36), bool(random.randint(2)))
    box = (0.0, 0.0, 0.0, 0.0)
    if state < 2:
        radius = side * random.uniform(1 / 10, 1 / 6)
        x, y = random.uniform(0.8 * radius, side - 0.8 * radius, 2)
        face(pen, random, x, y, radius, closed=state == 1)
        low, high = (np.maximum([x - radius, y - radius], 0), np.minimum([x + radius, y + radius], side))
        box = tuple(float(v) for v in np.concatenate([(low + high) / 2, high - low]) / side)
    small = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32).transpose(2, 0, 1) / 255
    return np.clip(small + 0.02 * random.standard_normal(small.shape), 0, 1).astype(np.float32), box


def face(pen, random: np.random.RandomState, x: float, y: float, radius: float, closed: bool) -> None:
    """A disc of the colour of skin, tilted by up to 20 degrees, with two eyes and a mouth."""
    shade = random.uniform(0.75, 1.1)
    skin = tuple(min(255, int(c * shade)) for c in SKIN)
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=skin)
    tilt = random.uniform(-math.pi / 9, math.pi / 9)
    for across in (-0.4, 0.4):
        eye(pen, *_turned(x, y, across * radius, -0.2 * radius, tilt), 0.17 * radius, closed)
    ends = [_turned(x, y, a * radius, 0.45 * radius, tilt) for a in (-0.3, 0.3)]
    pen.line(ends, fill=(150, 70, 70), width=max(1, round(radius / 10)))


def eye(pen, x: float, y: float, radius: float, closed: bool) -> None:
    """White with a dark pupil, or a dark line."""
    if closed:
        pen.line([(x - radius, y), (x + radius, y)], fill=DARK, width=max(1, round(radius / 2)))
        return
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=WHITE)
    pen.ellipse([x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2], fill=DARK)


def _turned(x: float, y: float, across: float, down: float, angle: float) -> tuple[float, float]:
    return (
        x + across * math.cos(angle) - down * math.sin(angle),
        y + across * math.sin(angle) + down * math.cos(angle),
    )
