"""Average precision of detections as COCO measures it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyformer.core.errors import require
from anyformer.models.dense.boxes import to_corners
from anyformer.models.dense.matching import Objects


def average_precision(
    truth: Sequence[Objects],
    found: Sequence[tuple[Tensor, Tensor, Tensor]],
    sizes: Sequence[Sequence[int]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """COCO's average precision: "map" (IoU of 0.50 to 0.95), "map50", "map75", and "classes".

    Args:
        truth, found: of every image; `found` has scores, class numbers and boxes (centre and size, shares).
        sizes: height and width of every image in pixels.
        classes: their names. Those without an object do not count.
    """
    coco, cocoeval = require("pycocotools.coco", "vision"), require("pycocotools.cocoeval", "vision")

    def rows(image: int, labels: Tensor, boxes: Tensor, scores: Tensor | None) -> list[dict[str, Any]]:
        h, w = sizes[image]
        corners = to_corners(boxes) * torch.tensor([w, h, w, h])
        out = []
        for k, (left, top, right, bottom) in enumerate(corners.tolist()):
            wide, high = max(right - left, 0.0), max(bottom - top, 0.0)
            row = {"image_id": image, "category_id": int(labels[k]), "bbox": [left, top, wide, high]}
            row |= {"area": wide * high, "iscrowd": 0}
            out.append(row if scores is None else row | {"score": float(scores[k])})
        return out

    real = [r for i, t in enumerate(truth) for r in rows(i, t.labels, t.boxes, None)]
    guesses = [r for i, (s, k, b) in enumerate(found) for r in rows(i, k, b, s)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to the terminal
        reference = coco.COCO()
        reference.dataset = {
            "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
            "annotations": [row | {"id": i + 1} for i, row in enumerate(real)],
            "info": {},
        }
        reference.createIndex()
        measured = cocoeval.COCOeval(reference, reference.loadRes(guesses), "bbox")
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class; all areas, 100 per image
    there = [k for k in range(len(classes)) if (precision[..., k] > -1).any()]
    counts = torch.cat([t.labels for t in truth]).bincount(minlength=len(classes)).tolist()

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if values.size else 0.0

    return {
        "map": mean(precision[..., there]),
        "map50": mean(precision[0][..., there]),
        "map75": mean(precision[5][..., there]),
        "classes": {classes[k]: {"samples": counts[k], "map": mean(precision[..., k])} for k in there},
    }
