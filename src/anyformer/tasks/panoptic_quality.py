"""Panoptic quality, and what it is measured on: masks merged to segments that do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anyformer.core.errors import require
from anyformer.data.panoptic import Categories
from anyformer.models.dense.mask_matching import NOWHERE, MaskPredictions, MaskTruth
from anyformer.models.dense.matching import assign

SURE, OWN, FREE = 0.4, 0.4, 0.8
"""A segment's class has at least this probability, a pixel of it belongs to it with this one, and so much of it is not
taken by surer ones; as kMaX-DeepLab's authors merge masks on ADE20K."""


class Merged(NamedTuple):
    """Segments of one image that do not overlap: classes `(m,)`, scores `(m,)`, and whose each pixel is, or -1."""

    labels: Tensor
    scores: Tensor
    segments: Tensor


def classes_of(truth: MaskTruth) -> Tensor:
    """`(b, h, w)`: the class of every pixel, `NOWHERE` where it has none."""
    known = truth.labels.gather(1, truth.segments.flatten(1).clamp(min=0)).view_as(truth.segments)
    return known.masked_fill(truth.segments < 0, NOWHERE)


def merged(found: MaskPredictions, row: int, categories: Categories) -> Merged:
    """An image's masks as segments that do not overlap, the surest first; kMaX-DeepLab's mask-wise merging.

    Yu et al. 2022, arXiv:2207.04044, section 4.1. Queries are ordered by the probability of their class times that of
    their mask; each takes its pixels that none has taken before it, unless too few are left. Masks of the same class of
    stuff are one segment.
    """
    scores, labels = found.logits[row].float().softmax(-1)[..., :-1].max(-1)
    p = found.masks[row].float().softmax(0)
    own = p > OWN
    certain = (p * own).sum((1, 2)) / own.sum((1, 2)).clamp(min=1)
    segments = torch.full(p.shape[1:], NOWHERE)
    kept: list[tuple[Tensor, Tensor]] = []
    stuff: dict[int, int] = {}
    for query in (scores * certain).argsort(descending=True).tolist():
        mine = own[query].cpu()
        free = mine & (segments == NOWHERE)
        label = int(labels[query])
        if scores[query] <= SURE or not free.sum() > FREE * mine.sum():
            continue
        if label not in categories.things and label in stuff:
            segments[free] = stuff[label]
            continue
        stuff[label] = segments[free] = len(kept)
        kept.append((labels[query].cpu(), scores[query].cpu()))
    if not kept:
        return Merged(torch.zeros(0, dtype=torch.int64), torch.zeros(0), segments)
    return Merged(torch.stack([k for k, _ in kept]), torch.stack([s for _, s in kept]), segments)


def mask_iou(masks: Tensor, segments: Tensor) -> Tensor:
    """Of each segment, its IoU with the query's pixels that fit it best, one to one; a pixel is its likeliest query's.

    Args:
        masks: logits `(n, h, w)`.
        segments: `(h, w)`; pixels below 0 do not count.
    """
    known = segments >= 0
    numbers, guesses = segments[known], masks.argmax(0)[known]
    if not len(numbers):
        return torch.zeros(0)
    count = int(numbers.max()) + 1
    both = (guesses * count + numbers).bincount(minlength=len(masks) * count).view(-1, count)
    iou = both / (both.sum(0) + both.sum(1, keepdim=True) - both).clamp(min=1)
    query, which = assign(-iou)
    found = torch.zeros(count)
    found[which] = iou[query, which]
    return found[both.sum(0) > 0]


class Quality:
    """Panoptic quality over a split: Kirillov et al. 2018, arXiv:1801.00868, equation 1, by torchmetrics."""

    def __init__(self, categories: Categories):
        stuffs = set(range(len(categories.names))) - set(categories.things)
        make = require("torchmetrics.detection", "vision").PanopticQuality
        self.names, self.void = categories.names, len(categories.names)
        self.samples = torch.zeros(self.void, dtype=torch.int64)
        self.metric = make(
            set(categories.things), stuffs, allow_unknown_preds_category=True, return_sq_and_rq=True,
            return_per_class=True,
        )  # fmt: skip
        self.order = [*sorted(categories.things), *sorted(stuffs)]

    def add(self, found: Sequence[Merged], truth: MaskTruth) -> None:
        """Images' found and true segments."""
        classes = classes_of(truth)
        guesses = torch.stack([torch.where(f.segments < 0, self.void, pick(f.labels, f.segments)) for f in found])
        numbers = torch.stack([f.segments for f in found])
        wanted = torch.stack([classes.masked_fill(classes < 0, self.void), truth.segments], -1)
        self.metric.update(torch.stack([guesses, numbers], -1), wanted)
        self.samples += truth.labels[truth.labels >= 0].bincount(minlength=self.void)

    def measured(self) -> dict[str, Any]:
        """ "pq", "sq" and "rq", means over the classes that occur or were guessed, and "classes"."""
        counted = self.metric.true_positives + self.metric.false_positives + self.metric.false_negatives
        table = self.metric.compute().reshape(-1, 3)
        there = [i for i in range(len(table)) if counted[i] > 0]
        means = table[there].mean(0).tolist() if there else [0.0, 0.0, 0.0]
        classes = {
            self.names[self.order[i]]: {"samples": int(self.samples[self.order[i]])}
            | dict(zip(("pq", "sq", "rq"), table[i].tolist(), strict=True))
            for i in there
        }
        return dict(zip(("pq", "sq", "rq"), means, strict=True)) | {"classes": classes}


def pick(labels: Tensor, segments: Tensor) -> Tensor:
    """The class of every pixel; 0 where there is no segment."""
    return labels[segments.clamp(min=0)] if len(labels) else torch.zeros_like(segments)
