"""Pairs of texts from a file of two columns."""

from __future__ import annotations

import csv
from pathlib import Path

from anyformer.core.errors import DataError
from anyformer.data.seeds import permutation
from anyformer.data.splits import check_splits
from anyformer.data.text import read_text


def read_pairs(
    path: Path, encoding: str = "utf-8", valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, list[tuple[str, str]]]:
    """Pairs (source, target) per part from a file with two columns, tab-separated or, with the suffix .csv, CSV.

    Pairs with the same source go to the same part, so that none is measured on what it was trained on.

    Raises `DataError` naming the file and the line that does not have two filled columns.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file with two columns, tab-separated or CSV.")
    lines = read_text(path, encoding).splitlines()
    commas = path.suffix.lower() == ".csv"
    reader = csv.reader(lines) if commas else csv.reader(lines, "excel-tab", quoting=csv.QUOTE_NONE)
    by_source: dict[str, list[tuple[str, str]]] = {}
    for row in reader:
        if not row:
            continue
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            found = f"{len(row)} columns, {str(row)[:60]}"
            raise DataError(f"{path}, line {reader.line_num}: {found}; two filled ones are needed.")
        by_source.setdefault(row[0], []).append((row[0], row[1]))
    groups = list(by_source.values())
    order = [groups[i] for i in permutation(len(groups), seed).tolist()]
    for_test, for_valid = round(len(groups) * test), round(len(groups) * valid)
    dealt = {
        "test": order[:for_test],
        "valid": order[for_test : for_test + for_valid],
        "train": order[for_test + for_valid :],
    }
    parts = {split: [pair for group in dealt[split] for pair in group] for split in ("train", "valid", "test")}
    check_splits(parts, path)
    return parts
