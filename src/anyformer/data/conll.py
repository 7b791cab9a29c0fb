"""Sentences with a tag for every word, from files of columns as CoNLL has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anyformer.core.errors import DataError
from anyformer.data.splits import completed, part_files
from anyformer.data.text import read_text

SUFFIXES = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".txt", ".tsv", ".train", ".testa", ".testb", ".dev", ".test")
DOCUMENT = "-DOCSTART-"
COMMENT = re.compile(r"#\s*\w[\w ]*=|#\s*newdoc|#\s*newpar")
"""What lines of comments begin with; in other files a word may be "#"."""
WORDS = re.compile(r"\w+|[^\w\s]")
"""Words of a plain text: letters and digits together, and every other sign alone."""


@dataclass(frozen=True)
class Sentence:
    """Words, and as many tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


Parts = dict[str, list[Sentence]]
"""The sentences of "train", "valid" and "test"."""


def read_conll(path: str | Path, word: int = 0, tag: int = -1, encoding: str = "utf-8", seed: int = 0) -> Parts:
    """The sentences of a file, or of a folder with a file for each part (train.txt, dev.txt, test.txt), in parts.

    A line has a word and what is said of it, in columns with tabs or spaces between; an empty line ends a sentence.
    Lines that begin with -DOCSTART-, and comments ("# text = ..."), do not count; in .conllu, neither do the lines of
    words that stand for two (1-2) or for none (8.1).

    Args:
        path: of the file or the folder.
        word, tag: their columns, from 0; negative numbers count from the last one.
        encoding: of the files.
        seed: by which sentences are dealt out to parts that are not given; equal ones go to the same.

    Raises:
        DataError: naming the file and the line with too few columns or another number of them than the first, or the
            part that is empty.
    """
    path = Path(path)
    files = part_files(path, SUFFIXES) if path.is_dir() else {"": path}
    if path.is_dir() and "train" not in files:
        raise DataError(f"{path} has no file of the training part, such as train.txt (of {', '.join(SUFFIXES)}).")
    found = {split: list(_read(file, word, tag, encoding)) for split, file in files.items()}
    if "" in found:
        found["train"] = found.pop("")
    return completed(found, path, seed=seed)


def _read(file: Path, word: int, tag: int, encoding: str) -> Iterator[Sentence]:
    words: list[str] = []
    tags: list[str] = []
    columns = 0
    universal = file.suffix.lower() == ".conllu"
    for number, line in enumerate([*read_text(file, encoding).removeprefix("\ufeff").splitlines(), ""], 1):
        if not line.strip():
            if words:
                yield Sentence(tuple(words), tuple(tags))
            words, tags = [], []
            continue
        if line.startswith(DOCUMENT) or COMMENT.match(line) or (universal and line.startswith("#")):
            continue
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        if universal and not cells[0].isdigit():
            continue
        columns = columns or len(cells)
        if len(cells) != columns:
            raise DataError(
                f"{file}, line {number}: {len(cells)} columns where the first line has {columns}; {line!r}."
            )
        if not all(-columns <= at < columns for at in (word, tag)) or (word - tag) % columns == 0:
            raise DataError(
                f"{file}, line {number}: there are {columns} columns, and the word is to stand in column {word}, its "
                f"tag in column {tag}: name two of them, from 0 to {columns - 1}; given {line!r}."
            )
        if not cells[word] or not cells[tag]:
            raise DataError(f"{file}, line {number}: the word or its tag is empty; given {line!r}.")
        words.append(cells[word])
        tags.append(cells[tag])
