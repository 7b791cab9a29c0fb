"""Which sample belongs to the training, the validation and the test part; the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from anyformer.core.errors import DataError

H = TypeVar("H", bound=Hashable)
SPLITS = ("train", "valid", "test")
FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "testa": "valid",
    "testb": "test",
    "test": "test",
}
"""Names that people give the folder, the file or the column of a part."""


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


def part_files(root: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The file of each part that a folder holds: train.tsv, dev.tsv and test.tsv, or one with "train" in its name.

    Args:
        root: the folder.
        suffixes: how the names of files end; others are left out.

    Raises `DataError` where two files are of one part.
    """
    found: dict[str, Path] = {}
    for file in sorted(p for p in root.iterdir() if p.is_file() and p.suffix.lower() in suffixes):
        words = {FOLDERS[word] for word in re.split(r"[._-]", file.name.lower()) if word in FOLDERS}
        if len(words) == 1 and found.setdefault(split := words.pop(), file) != file:
            raise DataError(f"{root} has two files of the {split} part, {found[split].name} and {file.name}: keep one.")
    return found


def completed(
    parts: Mapping[str, Sequence[H]], where: object, *, share: float = 0.1, seed: int = 0
) -> dict[str, list[H]]:
    """Parts as they are given, and those that are not, a share each of the training part; equal samples stay together.

    Raises `DataError` where that leaves a part empty.
    """
    unique = list(dict.fromkeys(parts.get("train", ())))
    order = [unique[i] for i in np.random.RandomState(seed).permutation(len(unique))]
    found, held = {split: list(samples) for split, samples in parts.items()}, max(1, round(share * len(order)))
    for split in ("test", "valid"):
        if split not in found:
            chosen, order = set(order[:held]), order[held:]
            found[split] = [sample for sample in parts.get("train", ()) if sample in chosen]
    kept = set(order)
    found["train"] = [sample for sample in parts.get("train", ()) if sample in kept]
    check_splits(found, where)
    return {split: found[split] for split in SPLITS}


def check_splits(splits: Mapping[str, Sequence], where: object) -> None:
    """Raise `DataError` where a part that training and measuring need is empty."""
    for split in SPLITS:
        if len(splits.get(split, ())) == 0:
            raise DataError(
                f"{where} leaves no samples for the {split} part: give more samples, or a part named {split!r}."
            )
