"""Metrics over whole splits, from counts. Units: fractions in [0, 1] unless the name says otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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


def bits_per_byte(nats: float, tokens: int, size: int) -> float:
    """Bits that a byte of text costs: mean loss `nats` over `tokens` targets that stand for `size` bytes.

    Unlike perplexity it compares models with different tokenizers.
    """
    return nats * tokens / (size * math.log(2))
