"""Image files: a folder of images per class, a CSV table of paths, and the parts that they are dealt into."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from anyformer.core.errors import DataError, OptionError, suggest
from anyformer.data.pixels import from_pillow, read_image, read_whole_image  # noqa: F401 (also known from here)
from anyformer.data.splits import FOLDERS, check_splits, stratified

MEAN, STD = 0.449, 0.226
"""Taken off the pixels in [0, 1]: the mean over colours of ImageNet's customary constants."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
HELD_BYTES = 1 << 30
"""Decoded sets up to this size stay in memory; larger ones are read again whenever they are needed."""

READERS = 8
"""Threads that decode at once; Pillow leaves Python's lock while it does."""


@dataclass(frozen=True)
class Listing:
    """Image files with the class number of each, their part ("" where it is to be dealt out), and the classes."""

    source: Path
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]


def read_folder(
    root: Path, classes: Sequence[str] | None = None, suffixes: Sequence[str] = SUFFIXES, what: str = "images"
) -> Listing:
    """List `root/CLASS/IMAGE`, or `root/train/CLASS/IMAGE` with valid (val, validation) and test beside it.

    Args:
        classes: their names; another folder is then an error. By default the folders' names, sorted.
        suffixes: how the names of files end; others are left out.
        what: the files, for messages.

    Raises `DataError` for a folder that is missing or empty, a class without images, or fewer than two classes.
    """
    if not root.is_dir():
        kind = "folder or CSV table" if what == "images" else "folder"
        raise DataError(f"there is no {kind} {root}: give one with a folder of {what} per class.")
    inner = _folders(root)
    parts = [(FOLDERS[f.name.lower()], f) for f in inner if f.name.lower() in FOLDERS]
    if not any(split == "train" for split, _ in parts):
        parts = [("", root)]
    elif len(parts) < len(inner):
        extra = next(f for f in inner if f.name.lower() not in FOLDERS)
        raise DataError(f"{root} has a part 'train', so {extra.name!r} beside it is no class: move or remove it.")
    found = [(split, folder) for split, part in parts for folder in _folders(part)]
    names = tuple(classes) if classes is not None else tuple(sorted({f.name for s, f in found if s in ("train", "")}))
    if len(names) < 2:
        shown = ", ".join(names) or "none"
        raise DataError(f"{root} holds {len(names)} class folders ({shown}); two or more are needed.")
    for _, folder in found:
        if folder.name not in names:
            near = suggest(folder.name, names)
            raise DataError(f"{folder} is none of the {len(names)} classes of the training part; {near}")
    rows: list[tuple[Path, int, str]] = []
    for split, folder in found:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not files and split in ("train", ""):
            raise DataError(f"the class folder {folder} holds no {what} ({', '.join(suffixes)}): fill or remove it.")
        rows += [(p, names.index(folder.name), split) for p in files]
    return _listing(root, rows, names)


def read_table(table: Path, classes: Sequence[str] | None = None) -> Listing:
    """List the images of a CSV table with a header: path, label and, optionally, split. Paths start at the table.

    Args:
        classes: their names; another label is then an error. By default the labels that occur, sorted (as numbers
            where all are).

    Raises `DataError`, naming the row, for an empty, missing or unknown label, and for a missing file.
    """
    rows: list[tuple[int, Path, str, str]] = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            header = [h.strip().lower() for h in reader.fieldnames or ()]
            reader.fieldnames = header
            for column in ("path", "label"):
                if column not in header:
                    raise DataError(f"{table} has the columns {header}; a header with path and label is needed.")
            for row in reader:
                rows.append(_row(table, reader.line_num, row))
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 (byte {error.start}): save it as UTF-8.") from error
    if not rows:
        raise DataError(f"{table} has no rows below its header.")
    names = tuple(classes) if classes is not None else class_names({label for _, _, label, _ in rows})
    for line, _, label, _ in rows:
        if label not in names:
            near = suggest(label, names)
            raise DataError(f"{table}, line {line}: the label {label!r} is none of the {len(names)} classes; {near}")
    if len(names) < 2:
        raise DataError(f"{table} has {len(names)} classes ({', '.join(names)}); two or more are needed.")
    for name in names:
        if all(label != name or split not in ("train", "") for _, _, label, split in rows):
            raise DataError(f"{table} has no training row of the class {name!r}.")
    return _listing(table, [(path, names.index(label), split) for _, path, label, split in rows], names)


def _row(table: Path, line: int, row: dict[str, str | None]) -> tuple[int, Path, str, str]:
    name, label, split = ((row.get(c) or "").strip() for c in ("path", "label", "split"))
    if not name or not label or label.lower() == "nan":
        raise DataError(f"{table}, line {line}: path is {name!r} and label is {label!r}; both are needed.")
    if split and split.lower() not in FOLDERS:
        raise DataError(f"{table}, line {line}: the split is {split!r}; it is train, valid, test or empty.")
    path = table.parent / name
    if not path.is_file():
        raise DataError(f"{table}, line {line}: there is no file {path}.")
    return line, path, label, FOLDERS.get(split.lower(), "")


def class_names(labels: set[str]) -> tuple[str, ...]:
    """Labels in the order of their names, or of their numbers where all are numbers."""
    numbers = all(label.lstrip("-").isdigit() for label in labels)
    return tuple(sorted(labels, key=int) if numbers else sorted(labels))


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(source: Path, rows: list[tuple[Path, int, str]], names: tuple[str, ...]) -> Listing:
    paths, labels, splits = zip(*rows, strict=True)
    return Listing(source, paths, labels, splits, names)


def normalize(pixels: Tensor, mean: float, std: float) -> Tensor:
    """Pixels in [0, 1] to mean 0 and deviation 1 of the set that the constants come from."""
    return (pixels - mean) / std


class Pixels(Protocol):
    """The images of a part."""

    def read(self, indices: Tensor) -> Tensor:
        """`(b, c, h, w)` float32, normalized."""
        ...


class HeldPixels:
    """Images that lie in memory, `(n, c, h, w)` float32 in [0, 1]."""

    def __init__(self, images: Tensor):
        self.images = images

    def read(self, indices: Tensor) -> Tensor:
        return normalize(self.images[indices], MEAN, STD)


class ImageFiles:
    """Images of these paths with labels `(n,)`; `pixels` `(n, c, s, s)` uint8 where they fit in memory."""

    def __init__(self, paths: Sequence[Path], labels: Tensor, channels: int, size: int, pixels: Tensor | None):
        self.paths, self.labels = tuple(paths), labels
        self.channels, self.side, self.pixels = channels, size, pixels

    def read(self, indices: Tensor) -> Tensor:
        """`(b, c, s, s)` float32, normalized. Raises `DataError` naming an image that cannot be read."""
        if self.pixels is not None:
            return normalize(self.pixels[indices].float() / 255, MEAN, STD)
        with ThreadPoolExecutor(READERS) as pool:
            images = list(pool.map(lambda i: read_image(self.paths[i], self.channels, self.side), indices.tolist()))
        return normalize(torch.stack(images), MEAN, STD)


def open_parts(
    listing: Listing, size: int, channels: int, on_error: Literal["raise", "skip"], seed: int
) -> tuple[dict[str, ImageFiles], list[Path]]:
    """The three parts of a listing, and the files that were left out as unreadable (with `on_error="skip"`).

    Parts that the listing does not give are dealt out of its training images, each class in the same proportions.
    Sets that fit in memory are read once, here, so that what is unreadable is known before a run starts.
    """
    if on_error not in ("raise", "skip"):
        raise OptionError(f"on_error is 'raise' or 'skip'; given {on_error!r}.")
    if size < 1:
        raise OptionError(f"image_size is at least 1 pixel; given {size}.")
    held = len(listing.paths) * channels * size * size <= HELD_BYTES
    pixels: list[Tensor | None] = [None] * len(listing.paths)
    skipped: list[Path] = []
    if held or on_error == "skip":

        def attempt(path: Path) -> Tensor | DataError:
            try:
                image = (read_image(path, channels, size) * 255).round().byte()
            except DataError as error:
                if on_error == "raise":
                    raise
                return error
            return image if held else image[:0]

        with ThreadPoolExecutor(READERS) as pool:
            results = list(pool.map(attempt, listing.paths))
        skipped = [p for p, r in zip(listing.paths, results, strict=True) if isinstance(r, DataError)]
        pixels = [None if isinstance(r, DataError) else r for r in results]
    lost = set(skipped)
    kept = [i for i, path in enumerate(listing.paths) if path not in lost]
    _check_kept(listing, kept, lost)
    rows = deal(listing, kept, seed)
    check_splits(rows, listing.source)
    parts = {}
    for split, members in rows.items():
        stack = torch.stack([pixels[i] for i in members]) if held else None  # type: ignore[misc]
        labels = torch.tensor([listing.labels[i] for i in members])
        parts[split] = ImageFiles([listing.paths[i] for i in members], labels, channels, size, stack)
    return parts, skipped


def _check_kept(listing: Listing, kept: list[int], lost: set[Path]) -> None:
    present = {listing.labels[i] for i in kept if listing.splits[i] in ("train", "")}
    for number, name in enumerate(listing.classes):
        if number not in present:
            reason = f"all its images are among the {len(lost)} unreadable ones" if lost else "it has no images"
            raise DataError(f"{listing.source}: the class {name!r} is empty in the training part: {reason}.")


def deal(listing: Listing, kept: list[int], seed: int) -> dict[str, list[int]]:
    """Indices per part: those that the listing gives, and the missing parts out of the training samples."""
    rows = {s: [i for i in kept if listing.splits[i] == s] for s in ("train", "valid", "test")}
    open_rows = [i for i in kept if listing.splits[i] == ""] + rows["train"]
    dealt = stratified(
        [listing.labels[i] for i in open_rows],
        valid=0.0 if rows["valid"] else 0.15,
        test=0.0 if rows["test"] else 0.15,
        seed=seed,
    )
    return {split: rows[split] or [open_rows[k] for k in dealt[split]] for split in ("valid", "test")} | {
        "train": [open_rows[k] for k in dealt["train"]]
    }


def check_labels(labels: Tensor, classes: int, where: object) -> None:
    """Raise `DataError`, naming the row, for labels that are no whole numbers in 0 to classes - 1."""
    bad = ~torch.isfinite(labels.double()) | (labels < 0) | (labels >= classes) | (labels.double() % 1 != 0)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        value = labels[row].item()
        shown = "NaN" if isinstance(value, float) and math.isnan(value) else value
        raise DataError(f"{where}, row {row}: the label is {shown}; with {classes} classes it is 0 to {classes - 1}.")
