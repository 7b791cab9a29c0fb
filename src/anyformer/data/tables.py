"""Tables as CSV files: a row of names, then rows of as many cells."""

from __future__ import annotations

import csv
from pathlib import Path

from anyformer.core.errors import DataError


def read_cells(path: Path, kind: str, row: str, least: int = 1) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the cells of every row below them; empty lines do not count.

    Args:
        path: of the file, in UTF-8.
        kind: what it is a table of, for messages ("flows").
        row: what has a row each ("flow").
        least: rows of values that are needed.

    Raises:
        DataError: no such file, no CSV in UTF-8, too few rows, or a row of another length; with its number.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; a table of {kind} is a CSV file with a row for every {row}.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = [cells for cells in csv.reader(file) if cells]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    found = max(len(rows) - 1, 0)
    if found < least:
        raise DataError(f"{path} has {found} rows of values; give a row of names and {least} or more, one a {row}.")
    head = [name.strip() for name in rows[0]]
    for number, cells in enumerate(rows[1:], 2):
        if len(cells) != len(head):
            raise DataError(f"{path}, row {number}: {len(cells)} cells where the first row names {len(head)} columns.")
    return head, rows[1:]
