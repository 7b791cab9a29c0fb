"""Documents, each a text of its own: lines of JSON or text, files of a folder, paragraphs of Python's documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

from anyformer.core.errors import DataError
from anyformer.data.seeds import permutation
from anyformer.data.splits import check_splits
from anyformer.data.text import SHORT, SUFFIXES, pydoc_text, read_text

BETWEEN = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(*])")
"""Where a sentence ends and the next one begins: behind a stop, before a capital or a sign that may stand there."""


def sentences(document: str) -> list[str]:
    """The sentences of a text, line breaks inside them as spaces."""
    return [" ".join(sentence.split()) for sentence in BETWEEN.split(document.strip())]


def pydoc_paragraphs() -> list[str]:
    """The paragraphs of Python's documentation that are longer than a heading; some 3,000, no two of them alike."""
    return [p for p in pydoc_text().strip().split("\n\n") if len(p) >= SHORT]


def read_documents(path: str | Path, encoding: str = "utf-8") -> list[str]:
    """The documents of a .jsonl file (objects with "text"), of a text file (one a line), or of a folder (one a file).

    Raises `DataError` naming the file and the line that holds none.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise DataError(f"the folder {path} holds no text files ({', '.join(SUFFIXES)}), one for each document.")
        return [read_text(file, encoding).strip() for file in files]
    lines = enumerate(read_text(path, encoding).splitlines(), 1)
    if path.suffix.lower() != ".jsonl":
        return [line.strip() for _, line in lines if line.strip()]
    return [_entry(path, number, line) for number, line in lines if line.strip()]


def _entry(path: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}, line {number}, is no document: each line is an object with "text"; given {line[:60]!r}.'
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'{path}, line {number}: "text" is a text that is not empty; given {str(text)[:60]!r}.')
    return text.strip()


def deal(
    documents: list[str], where: object, *, valid: float = 0.08, test: float = 0.08, seed: int = 0
) -> dict[str, list[str]]:
    """The documents of each part; equal ones go to the same part. Raises `DataError` where there are too few."""
    unique = list(dict.fromkeys(documents))
    order = [unique[i] for i in permutation(len(unique), seed).tolist()]
    for_test, for_valid = round(len(order) * test), round(len(order) * valid)
    parts = {
        "train": order[for_test + for_valid :],
        "valid": order[for_test : for_test + for_valid],
        "test": order[:for_test],
    }
    check_splits(parts, where)
    return parts
