"""Metrics over whole splits, from counts. Units: fractions in [0, 1] unless the name says otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anyformer.tasks.task import IGNORE


def confusion(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """`(classes, classes)` int64 counts, truth by rows, guess by columns, from two `(n,)` tensors of class numbers."""
    return torch.bincount(truth * classes + guess, minlength=classes * classes).view(classes, classes)


def accuracy(table: Tensor) -> float:
    """Fraction of samples on the diagonal of a confusion table."""
    return float(table.diagonal().sum() / table.sum())


def recall(table: Tensor) -> Tensor:
    """`(classes,)`: the fraction of each class that was found; 0 for a class without samples."""
    return table.diagonal() / table.sum(1).clamp(min=1)


def f1(table: Tensor) -> Tensor:
    """`(classes,)`: harmonic mean of precision and recall; 0 for a class neither present nor guessed."""
    return 2 * table.diagonal() / (table.sum(0) + table.sum(1)).clamp(min=1)


def classified(truth: Tensor, guess: Tensor, loss: float, classes: Sequence[str]) -> dict[str, Any]:
    """What `evaluate` says of a classification whose losses sum up to `loss`: means, each class's numbers, guesses."""
    table = confusion(truth, guess, len(classes))
    found, dice = recall(table), f1(table)
    return {
        "accuracy": accuracy(table),
        "loss": loss / len(truth),
        "f1": float(dice.mean()),
        "classes": {
            name: {"samples": int(table[k].sum()), "recall": float(found[k]), "f1": float(dice[k])}
            for k, name in enumerate(classes)
        },
        "confusion": table.tolist(),
        "guesses": [classes[k] for k in guess.tolist()],
    }


def labelled(truth: Tensor, guess: Tensor, loss: float, classes: Sequence[str]) -> dict[str, Any]:
    """What `evaluate` says of samples with several labels, `(n, classes)` bool, whose losses sum up to `loss`.

    "micro_f1" counts labels of all classes together, "macro_f1" is the mean over classes; a class that is neither
    present nor guessed has an F1 of 0. "exact" is the share of samples all of whose labels are right.
    """
    hits, present, said = (t.sum(0) for t in (truth & guess, truth, guess))
    dice = 2 * hits / (present + said).clamp(min=1)
    return {
        "micro_f1": float(2 * hits.sum() / (present + said).sum().clamp(min=1)),
        "macro_f1": float(dice.mean()),
        "exact": float((truth == guess).all(1).float().mean()),
        "loss": loss / truth.numel(),
        "classes": {
            name: {
                "samples": int(present[k]),
                "precision": float(hits[k] / said[k].clamp(min=1)),
                "recall": float(hits[k] / present[k].clamp(min=1)),
                "f1": float(dice[k]),
            }
            for k, name in enumerate(classes)
        },
        "guesses": [[name for name, yes in zip(classes, row, strict=True) if yes] for row in guess.tolist()],
    }


def bits_per_byte(nats: float, tokens: int, size: int) -> float:
    """Bits that a byte of text costs: mean loss `nats` over `tokens` targets that stand for `size` bytes.

    Unlike perplexity it compares models with different tokenizers.
    """
    return nats * tokens / (size * math.log(2))


def counts(truth: Tensor, guesses: Tensor, classes: int) -> Tensor:
    """The confusion table of all pixels or points that have a class."""
    valid = truth != IGNORE
    return confusion(truth[valid], guesses[valid], classes)


def iou(table: Tensor) -> Tensor:
    """`(classes,)`: intersection over union; 0 for a class neither present nor guessed."""
    hit = table.diagonal()
    return hit / (table.sum(0) + table.sum(1) - hit).clamp(min=1)


def means(table: Tensor) -> dict[str, float]:
    """ "miou" and "dice": means over the classes that occur or were guessed."""
    there = (table.sum(0) + table.sum(1)) > 0
    if not bool(there.any()):
        return {"miou": 0.0, "dice": 0.0}
    return {"miou": float(iou(table)[there].mean()), "dice": float(f1(table)[there].mean())}


def described(table: Tensor, loss: float, classes: Sequence[str]) -> dict[str, Any]:
    """What `evaluate` says of a confusion table and of the losses' sum: means, and each class's numbers."""
    overlap, found, dice = iou(table), recall(table), f1(table)
    return {
        **means(table),
        "accuracy": accuracy(table),
        "loss": loss / max(int(table.sum()), 1),
        "classes": {
            name: {
                "samples": int(table[k].sum()),
                "recall": float(found[k]),
                "f1": float(dice[k]),
                "iou": float(overlap[k]),
            }
            for k, name in enumerate(classes)
        },
        "confusion": table.tolist(),
    }
