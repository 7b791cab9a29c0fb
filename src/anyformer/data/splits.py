"""Which sample belongs to the training, the validation and the test part; the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anyformer.core.errors import DataError

SPLITS = ("train", "valid", "test")
FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}
"""Names that people give the folder or the column of a part."""


def stratified(
    labels: Sequence[int] | np.ndarray, valid: float = 0.15, test: float = 0.15, seed: int = 0
) -> dict[str, np.ndarray]:
    """Indices of each part, with every class in the same proportions; at least one of each class in `train`.

    Args:
        labels: class number of each sample.
        valid, test: fractions of each class, rounded to whole samples.
        seed: the order in which samples are dealt out.
    """
    labels = np.asarray(labels)
    dealt: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for kind in np.unique(labels):
        members = np.flatnonzero(labels == kind)
        members = np.random.RandomState(seed).permutation(members)  # RandomState's streams never change
        for_test = min(round(len(members) * test), len(members) - 1)
        for_valid = min(round(len(members) * valid), len(members) - 1 - for_test)
        dealt["test"].append(members[:for_test])
        dealt["valid"].append(members[for_test : for_test + for_valid])
        dealt["train"].append(members[for_test + for_valid :])
    return {split: np.sort(np.concatenate(parts)) for split, parts in dealt.items()}


def check_splits(splits: Mapping[str, Sequence], where: object) -> None:
    """Raise `DataError` where a part that training and measuring need is empty."""
    for split in SPLITS:
        if len(splits.get(split, ())) == 0:
            raise DataError(
                f"{where} leaves no samples for the {split} part: give more samples, or a part named {split!r}."
            )
