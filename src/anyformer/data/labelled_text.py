"""Texts, or pairs of them, with a class or several labels: tables, JSON lines, folders with a folder for each class."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from anyformer.core.errors import DataError, OptionError
from anyformer.data.images import Listing, deal
from anyformer.data.long_text import list_texts
from anyformer.data.splits import FOLDERS, SPLITS, check_splits, part_files
from anyformer.data.text import read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Labelled:
    """A text, or two that belong together, and the name of their class."""

    texts: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class MultiLabelled:
    """A text, or two that belong together, and the names of its labels: none, one or several."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


Sample = TypeVar("Sample", Labelled, MultiLabelled)
Parts = dict[str, list[Labelled]]
"""The samples of "train", "valid" and "test"."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a table, or the keys of JSON lines, are called; `second` where a sample has two texts."""

    text: str = "text"
    label: str = "label"
    second: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """All that a sample needs, its class last."""
        return (self.text, *([] if self.second is None else [self.second]), self.label)


def read_labelled(path: str | Path, columns: Columns = Columns(), encoding: str = "utf-8", seed: int = 0) -> Parts:
    """The samples of a file or a folder, in parts.

    Args:
        path: a .csv or .tsv file with a row of names, or a .jsonl file of objects; a column "split" may say the part
            of a row. A folder with such a file for each part (train.tsv, dev.tsv, test.tsv); or one with a folder of
            .txt files for each class, as `data.long_text.list_texts` takes it.
        columns: names of the text, the class and, for pairs, the second text.
        encoding: of the files.
        seed: by which samples are dealt out to parts that are not given; those with an equal text go to the same.

    Raises:
        DataError: naming the file and the line that is none, the columns that there are, or the part that is empty.
    """
    path = Path(path)
    if path.is_dir() and "train" not in part_files(path, SUFFIXES):
        if columns.second is not None:
            raise DataError(
                f"{path} is a folder without train.csv, train.tsv or train.jsonl, where pairs are read from."
            )
        listing, dealt = list_texts(path, seed)
        names = [listing.classes[k] for k in listing.labels]
        return {
            split: [Labelled((read_text(listing.paths[i], encoding),), names[i]) for i in rows]
            for split, rows in dealt.items()
        }
    rows = []
    for split, where, row in _rows(path, columns, encoding):
        label = str(row[columns.label]).strip()
        if not label:
            raise DataError(f"{where}: {columns.label!r} is empty; fill it or leave out the row.")
        rows.append((split, Labelled(_texts(row, where, columns), label)))
    parts = _dealt(rows, [sample.label for _, sample in rows], path, seed)
    check_splits(parts, path)
    return parts


def read_multilabelled(
    path: str | Path,
    columns: Columns = Columns(label="labels"),
    separator: str = ";",
    encoding: str = "utf-8",
    seed: int = 0,
) -> dict[str, list[MultiLabelled]]:
    """The samples of a file, or of a folder with a file for each part, as `read_labelled` takes them.

    Args:
        path: as `read_labelled`'s, but folders of .txt files for each class.
        columns: names of the text, the labels and, for pairs, the second text.
        separator: between the labels of a row; in JSON lines they may be a list. A row without any has none.
        encoding, seed: as `read_labelled`'s. A label that few samples have is dealt to "train" first.

    Raises:
        OptionError: an empty separator.
        DataError: as `read_labelled`, and for labels that are neither a text nor a list of texts.
    """
    path = Path(path)
    if not separator:
        raise OptionError('a separator stands between labels, such as ";" or "|"; given an empty one.')
    if path.is_dir() and "train" not in part_files(path, SUFFIXES):
        raise DataError(f"{path} is a folder without train.csv, train.tsv or train.jsonl, where labels are read from.")
    rows = [
        (split, MultiLabelled(_texts(row, where, columns), _several(row[columns.label], separator, where)))
        for split, where, row in _rows(path, columns, encoding)
    ]
    counts = Counter(label for _, sample in rows for label in sample.labels)
    rarest = [min(sample.labels, key=lambda label: (counts[label], label), default="") for _, sample in rows]
    parts = _dealt(rows, rarest, path, seed)
    check_splits(parts, path)
    return parts


def _several(given: Any, separator: str, where: str) -> tuple[str, ...]:
    """The labels that a row names, each once, in its order."""
    found = given.split(separator) if isinstance(given, str) else given
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise DataError(
            f"{where}: labels are a text with {separator!r} between them or a list of texts; given {given!r}."
        )
    return tuple(dict.fromkeys(label.strip() for label in found if label.strip()))


def _dealt(rows: Sequence[tuple[str, Sample]], kinds: Sequence[str], path: Path, seed: int) -> dict[str, list[Sample]]:
    """The rows in the parts that they name, the missing parts out of the others, evenly by their `kinds`.

    Rows with an equal first text stay together.
    """
    together: dict[tuple[str, str], list[int]] = {}
    for i, (split, sample) in enumerate(rows):
        together.setdefault((split, sample.texts[0]), []).append(i)
    groups, classes = list(together.values()), sorted(set(kinds))
    numbers = {name: i for i, name in enumerate(classes)}
    listing = Listing(
        path, (), tuple(numbers[kinds[group[0]]] for group in groups), tuple(s for s, _ in together), tuple(classes)
    )
    dealt = deal(listing, list(range(len(groups))), seed)
    return {split: [rows[i][1] for k in dealt[split] for i in groups[k]] for split in SPLITS}


def _rows(path: Path, columns: Columns, encoding: str) -> Iterator[tuple[str, str, dict[Any, Any]]]:
    """Each row of a file, or of the files of a folder's parts: its part, where it stands, and what it says."""
    files = part_files(path, SUFFIXES) if path.is_dir() else {"": path}
    for part, file in files.items():
        yield from _file_rows(file, columns, encoding, part)


def _texts(row: dict[Any, Any], where: str, columns: Columns) -> tuple[str, ...]:
    """The texts of a row."""
    found = tuple(str(row[name]).strip() for name in columns.all[:-1])
    if not all(found):
        blank = columns.all[found.index("")]
        raise DataError(f"{where}: {blank!r} is empty; fill it or leave out the row.")
    return found


def _file_rows(file: Path, columns: Columns, encoding: str, part: str) -> Iterator[tuple[str, str, dict[Any, Any]]]:
    """The rows of a file, each with its part ("" where it names none) and where it stands."""
    if file.suffix.lower() not in SUFFIXES:
        raise DataError(f"{file} is none of {', '.join(SUFFIXES)}, nor a folder of texts for each class.")
    text = read_text(file, encoding)
    rows = _lines(file, text) if file.suffix.lower() == ".jsonl" else _table(file, text)
    empty = True
    for where, row in rows:
        empty = False
        missing = next((name for name in columns.all if row.get(name) is None), None)
        if missing is not None:
            raise DataError(
                f"{where}: there is no {missing!r} among {', '.join(map(str, row)) or 'nothing'}: name the columns of "
                "the text and of its class by text= and label=, and that of the second text, if any, by second=."
            )
        split = str(row.get("split") or "").strip().lower()
        if split and split not in FOLDERS:
            raise DataError(f"{where}: the split is {split!r}; it is train, valid, test or empty.")
        yield part or FOLDERS.get(split, ""), where, row
    if empty:
        raise DataError(f"{file} has no rows below its names.")


def _table(file: Path, text: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Rows of a CSV file by their names, or of a file with tabs, in which quotes mean nothing."""
    csv.field_size_limit(1 << 30)
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    commas = file.suffix.lower() == ".csv"
    reader = csv.DictReader(lines) if commas else csv.DictReader(lines, dialect="excel-tab", quoting=csv.QUOTE_NONE)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{file}, line {reader.line_num}: the row has other columns than "
                    f"{', '.join(reader.fieldnames or [])}."
                )
            yield f"{file}, line {reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}, is no row of a table: {error}.") from error


def _lines(file: Path, text: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}, line {number}, is no JSON object ({error}).") from error
        if not isinstance(entry, dict):
            raise DataError(f"{file}, line {number}, is no object with a text and its class; given {line[:60]!r}.")
        yield f"{file}, line {number}", entry
