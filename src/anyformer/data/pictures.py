"""Pictures of results: pixels with a caption, and the few strokes that tasks draw them with."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

PALETTE = np.array(
    [
        (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (148, 148, 148), (255, 255, 255),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""Colours of classes, the background first; told apart by the colour-blind (Okabe and Ito 2008)."""

WHEEL = (
    (0, 1, 0, 0), (15, 1, 1, 0), (21, 0, 1, 0), (25, 0, 1, 1), (36, 0, 0, 1), (49, 1, 0, 1), (55, 1, 0, 0),
)  # fmt: skip
"""Places on the wheel of `flow_wheel`, with their red, green and blue: steps from one to the next look alike."""

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Picture:
    """Pixels `(h, w, 3)` of bytes, and what they show."""

    caption: str
    pixels: Pixels

    def png(self) -> bytes:
        """The picture as a PNG file."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def gray(values: Float[np.ndarray, "h w"], low: float | None = None, high: float | None = None) -> Pixels:
    """Numbers as shades from black (`low`, by default the smallest) to white (`high`, the largest)."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    shades = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(shades.round().astype(np.uint8)[..., None], 3, axis=-1)


def colour(image: Float[np.ndarray, "c h w"]) -> Pixels:
    """An image in [0, 1] of one or three channels; what lies outside is cut off."""
    pixels = (np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]


def flow_wheel(flow: Float[np.ndarray, "2 h w"], longest: float | None = None) -> Pixels:
    """Motions (right, down) as colours: the direction is the hue, the length is how far it is from white.

    The colour wheel of Baker et al. 2011 (the Middlebury benchmark): right is red, down yellow, left cyan, up a violet.
    Motions beyond `longest` (by default the longest there is) are darker.
    """
    length = np.hypot(flow[0], flow[1])
    longest = float(length.max()) if longest is None else longest
    share = (length / max(longest, 1e-12))[..., None]
    place = (np.arctan2(-flow[1], -flow[0]) / np.pi + 1) / 2 * WHEEL[-1][0]
    anchors = np.array(WHEEL, dtype=float)
    hue = np.stack([np.interp(place, anchors[:, 0], anchors[:, k]) for k in (1, 2, 3)], -1)
    colours = np.where(share <= 1, 1 - share * (1 - hue), 0.75 * hue)
    return (colours * 255).round().astype(np.uint8)


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Every pixel as a square of `factor` pixels."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def beside(panels: Sequence[Pixels], gap: int = 4) -> Pixels:
    """Pictures in a row, on white, their upper edges aligned."""
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + gap * (len(panels) - 1)
    row = np.full((height, width, 3), 255, dtype=np.uint8)
    left = 0
    for panel in panels:
        row[: panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + gap
    return row


def lines(
    curves: Sequence[tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], int]], width: int = 320, height: int = 120
) -> Pixels:
    """Curves on white in one frame of reference, each as (places, values, colour of `PALETTE`); later ones on top."""
    from PIL import Image, ImageDraw

    places = np.concatenate([x for x, _, _ in curves])
    values = np.concatenate([y for _, y, _ in curves])
    (left, right), (low, high) = (places.min(), places.max()), (values.min(), values.max())
    across, up = max(float(right - left), 1e-12), max(float(high - low), 1e-12)
    image = Image.new("RGB", (width, height), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for x, y, colour_of in curves:
        columns = 4 + (x - left) / across * (width - 9)
        rows = height - 5 - (y - low) / up * (height - 9)
        spots = [(float(a), float(b)) for a, b in zip(columns, rows, strict=True)]
        pen.line(spots, fill=tuple(PALETTE[colour_of].tolist()), width=2)
    return np.asarray(image)


def highlighted(rows: Sequence[Sequence[tuple[str, str]]], kinds: Sequence[str], width: int = 720) -> Pixels:
    """Rows of text, broken to this width; pieces (text, kind) whose kind is not "" stand on its colour, named below.

    Args:
        rows: the pieces of each row.
        kinds: all kinds, in the order of their colours.
        width: of the picture.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, gap, line = ImageFont.load_default(12), 6, 32
    placed: list[tuple[int, int, int, str, str]] = []
    top = 0
    for row in rows:
        left = 0
        for text, kind in row:
            size = round(max(font.getlength(text), font.getlength(kind))) + gap
            if left and left + size > width:
                left, top = 0, top + line
            placed.append((left, top, size, text, kind))
            left += size + gap
        top += line + gap
    image = Image.new("RGB", (width, max(top - gap, 1)), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for left, top, size, text, kind in placed:
        if kind:
            shade = PALETTE[1 + kinds.index(kind) % (len(PALETTE) - 2)] // 2 + 127  # light, so that ink can be read
            pen.rectangle((left, top, left + size, top + line - 2), fill=tuple(shade.tolist()))
            pen.text((left + gap // 2, top + line // 2), kind, fill=(70, 70, 70), font=font)
        pen.text((left + gap // 2, top), text, fill=(0, 0, 0), font=font)
    return np.asarray(image)
