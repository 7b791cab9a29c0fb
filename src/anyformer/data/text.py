"""Text: the documentation that ships with Python, and people's own files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from anyformer.core.errors import DataError, OptionError

SUFFIXES = (".txt", ".md", ".rst", ".text", ".py", ".tex")
SHORT = 40
"""Paragraphs below this many characters may stand in several parts of a text: headings, single lines of code."""


@cache
def pydoc_text() -> str:
    """The topics of Python's own documentation, real English about half a million characters long.

    It ships with Python (`pydoc_data.topics`), so its length follows the Python version; results keep its digest.
    Topics quote each other; a paragraph that came before is left out, so that no part of the text holds what another
    one is measured on.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    kept = []
    for name in sorted(topics):
        for paragraph in topics[name].strip().split("\n\n"):
            key = " ".join(paragraph.split())
            if key not in seen or len(key) < SHORT:
                kept.append(paragraph)
            seen.add(key)
    return "\n\n".join(kept) + "\n"


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, or of all text files of a folder in the order of their names.

    Raises `DataError` naming the file, and the byte at which it is not in this encoding.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise OptionError(f"there is no encoding {encoding!r}; try 'utf-8' or 'latin-1'.") from error
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise DataError(f"the folder {path} holds no text files ({', '.join(SUFFIXES)}).")
        return "\n\n".join(_decode(p, encoding) for p in files)
    return _decode(path, encoding)


def _decode(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the text {path} cannot be read: {error.strerror}.") from error
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {encoding}: byte {error.start} is 0x{data[error.start]:02x}. "
            f"Name its encoding, such as encoding='latin-1'."
        ) from error
    if not text.strip():
        raise DataError(f"the text {path} is empty.")
    return text.replace("\r\n", "\n")


def cut(text: str, valid: float = 0.08, test: float = 0.08) -> dict[str, str]:
    """Three stretches of a text, cut between paragraphs where there are any: train first, then valid, then test."""
    first = _boundary(text, round(len(text) * (1 - valid - test)))
    second = _boundary(text, round(len(text) * (1 - test)))
    return {"train": text[:first], "valid": text[first:second], "test": text[second:]}


def _boundary(text: str, near: int) -> int:
    at = text.find("\n\n", near)
    return near if at < 0 or at - near > 2000 else at + 2
