"""Handwritten digits, 1,797 images of 8x8 pixels, shipped with scikit-learn: the set that is always there."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from anyformer.data.splits import stratified

MEAN, STD = 0.3053, 0.3760
"""Of the pixels of all images after division by 16, their largest value."""

SPLIT_SEED = 0


@cache
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Part to (images `(n, 1, 8, 8)` float32 with mean 0 and deviation 1, labels `(n,)` int64).

    Parts: train 1,169, valid 269, test 359 images, every digit in the same proportions, always the same images.
    Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI (its test part).
    """
    from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(array) for array in load_digits(return_X_y=True))
    images = torch.from_numpy((pixels / 16 - MEAN) / STD).float().view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).long()
    parts = stratified(labels, valid=0.15, test=0.2, seed=SPLIT_SEED)
    return {split: (images[rows], targets[rows]) for split, rows in parts.items()}
