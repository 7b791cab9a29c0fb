"""Boxes: their two forms, how much two overlap, and the head that predicts them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init


def to_corners(boxes: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """(centre x, centre y, width, height) to (left, top, right, bottom), in the same unit."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


def to_centres(boxes: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """(left, top, right, bottom) to (centre x, centre y, width, height), in the same unit."""
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)


def area(boxes: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b"]:
    """Of boxes as corners; 0 for those that are turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlap(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes as corners, and their union; both `(*b)` after broadcasting."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    union = area(a) + area(b) - inner
    return inner / union.clamp(min=1e-9), union


def giou(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b"]:
    """Generalized IoU of boxes as corners, in (-1, 1]: IoU less the share of the hull that neither fills.

    Rezatofighi et al. 2019, arXiv:1902.09630, algorithm 1.
    """
    iou, union = overlap(a, b)
    low, high = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    hull = (high - low).clamp(min=0).prod(-1)
    return iou - (hull - union) / hull.clamp(min=1e-9)


class BoxHead(nn.Module):
    """Three linear layers with ReLU between, `(*b, c)` to `(*b, 4)`: arXiv:2005.12872, section 3.2."""

    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.ModuleList([init.linear(dim, dim), init.linear(dim, dim), init.linear(dim, 4)])

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b 4"]:
        for i, layer in enumerate(self.layers):
            x = layer(x if not i else x.relu())
        return x
