"""Images with sentences: scenes that are generated, tables and COCO files of captions, and words as tokens."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyformer.core.errors import DataError, OptionError
from anyformer.data.images import Listing
from anyformer.data.segmentation import ground, outline
from anyformer.data.splits import FOLDERS
from anyformer.data.text import read_text

COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.75, 0.1),
    "blue": (0.1, 0.2, 0.95),
    "yellow": (0.95, 0.9, 0.1),
    "purple": (0.7, 0.1, 0.8),
}
OUTLINES = ("disc", "square", "triangle")
RELATIONS = ("left of", "above")
"""What the scenes are made of: 5 colours and 3 outlines, twice, in 2 relations are 450 captions."""

PATHS, TEXTS = ("path", "image", "file_name", "filename", "file"), ("caption", "text", "sentence", "description")
"""Names that people give the two columns of a table."""

TABLES = ("captions.csv", "captions.txt")
"""Names of a table inside a folder."""


# -- generated ------------------------------------------------------------------------------------------------


def scenes(count: int, size: int, seed: int) -> tuple[Tensor, list[str], Tensor]:
    """Two coloured shapes on textured ground, and what can be said of them: "a red disc left of a blue square".

    Of two shapes side by side the left one is named first, of two above each other the upper one, so that each scene
    has one caption.

    Returns:
        images `(count, 3, size, size)` float32 in [0, 1]; captions; masks `(count, 2, size, size)`, true where the
        shape named first, and the one named second, is.
    """
    if size < 16:
        raise OptionError(f"two shapes take at least 16 pixels; given image_size={size}.")
    random = np.random.RandomState(seed)  # its streams never change
    images, captions = np.empty((count, 3, size, size), np.float32), []
    masks = np.zeros((count, 2, size, size), bool)
    names = list(COLOURS)
    for image, places in zip(images, masks, strict=True):
        image[:] = random.uniform(0.3, 0.6) + 0.3 * (ground(random, size) - 0.45)
        relation, said = random.randint(len(RELATIONS)), []
        radii = random.uniform(size / 6.5, size / 5, 2)
        along = random.uniform([0, size / 2], [size / 2, size]).clip(radii, [size / 2, size] - radii)
        along[1] = max(along[1], size / 2 + radii[1])
        across = random.uniform(radii[0], size - radii[0])
        across = np.array([across, across + random.uniform(-size / 6, size / 6)]).clip(radii, size - radii)
        for i in range(2):
            kind, name = random.randint(len(OUTLINES)), names[random.randint(len(names))]
            y, x = (across[i], along[i]) if relation == 0 else (along[i], across[i])
            turn = random.uniform(-0.1, 0.1) + (np.pi / 2 if OUTLINES[kind] == "triangle" else 0.0)
            places[i] = outline(kind + 1, size, y, x, radii[i], turn)
            image[:, places[i]] = np.array(COLOURS[name])[:, None] + random.normal(0, 0.05, (3, int(places[i].sum())))
            said.append(f"a {name} {OUTLINES[kind]}")
        captions.append(f" {RELATIONS[relation]} ".join(said))
    return torch.from_numpy(images).clamp(0, 1), captions, torch.from_numpy(masks)


# -- words ----------------------------------------------------------------------------------------------------


WORD = re.compile(r"\w+(?:'\w+)*")


def words(text: str) -> list[str]:
    """The words of a caption in lower case, without punctuation, as captions are compared."""
    return [word.lower() for word in WORD.findall(text)]


class Words:
    """One token per word: 0 for words that are not known, then the known ones, the most frequent first.

    Args:
        captions: what the words are taken from: the training part only.
        least: a word that stands there fewer times is not known.
    """

    lossless = False

    def __init__(self, captions: Iterable[str], least: int = 1):
        if least < 1:
            raise OptionError(f"a known word stands in the captions at least once; given least={least}.")
        counts = Counter(word for caption in captions for word in words(caption))
        self.known = ("unknown", *sorted((w for w in counts if counts[w] >= least), key=lambda w: (-counts[w], w)))
        self.numbers = {word: i for i, word in enumerate(self.known) if i}
        self.vocab_size = len(self.known)

    @property
    def pieces(self) -> list[str]:
        return [f" {word}" for word in self.known]

    def encode(self, text: str) -> list[int]:
        return [self.numbers.get(word, 0) for word in words(text)]

    def places(self, text: str) -> list[tuple[int, int]]:
        """For each token the characters that it stands for: the first, and the one behind the last."""
        return [found.span() for found in WORD.finditer(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The words with spaces between."""
        return " ".join(self.known[token] for token in tokens)


# -- files ----------------------------------------------------------------------------------------------------


def read_captions(path: Path, images: Path | None = None, encoding: str = "utf-8") -> tuple[Listing, dict]:
    """Image files and the captions of each, `{path: [caption, ...]}`.

    Accepted: a folder with `captions.csv` (or `captions.txt`), or such a table itself, with a header and the columns
    path, caption and, optionally, split (an image with several captions has several rows); or COCO's JSON of captions.

    Args:
        path: the folder, the table or the JSON.
        images: folder at which the names of the files start; by default where the table is, and for COCO's JSON also
            `images` and the folder of its part (`train2017`) there and one folder up.
        encoding: of the table.

    Raises:
        DataError: naming the file, and the line or entry that cannot be used.
    """
    if path.is_dir():
        table = next((path / name for name in TABLES if (path / name).is_file()), None)
        if table is None:
            raise DataError(
                f"the folder {path} holds no captions.csv: write one with the columns path and caption, or give the "
                "path of COCO's captions_*.json."
            )
        path = table
    if not path.is_file():
        raise DataError(f"there is no folder, table or JSON of captions {path}.")
    rows = _coco(path, images) if path.suffix.lower() == ".json" else _table(path, images, encoding)
    said: dict[Path, list[str]] = {}
    splits: dict[Path, str] = {}
    for where, file, caption, split in rows:
        if not words(caption):
            raise DataError(f"{path}, {where}: the caption of {file.name} is {caption!r}; it has no word.")
        if file not in said and not file.is_file():
            raise DataError(f"{path}, {where}: there is no image {file}; images= says in which folder they are.")
        if splits.setdefault(file, split) != split:
            raise DataError(f"{path}, {where}: {file.name} is in two parts, {splits[file]!r} and {split!r}.")
        said.setdefault(file, []).append(" ".join(caption.split()))
    if not said:
        raise DataError(f"{path} holds no captions.")
    listing = Listing(path, tuple(said), (0,) * len(said), tuple(splits[f] for f in said), ("image",))
    return listing, said


def _table(path: Path, images: Path | None, encoding: str) -> list[tuple[str, Path, str, str]]:
    """(Where it stands, image, caption, part) of every row."""
    reader = csv.DictReader(read_text(path, encoding).splitlines())
    header = {name.strip().lower(): name for name in reader.fieldnames or ()}
    columns = [next((header[n] for n in names if n in header), None) for names in (PATHS, TEXTS)]
    if None in columns:
        raise DataError(
            f"{path} has the columns {', '.join(header) or 'none'}; a header with path and caption is needed."
        )
    root, rows = path.parent if images is None else images, []
    for row in reader:
        where = f"line {reader.line_num}"
        file, caption = ((row[c] or "").strip() for c in columns if c is not None)
        split = (row.get(header.get("split", "")) or "").strip().lower()
        if not file:
            raise DataError(f"{path}, {where}: the path of the image is empty.")
        if split and split not in FOLDERS:
            raise DataError(f"{path}, {where}: the split is {split!r}; it is train, valid, test or empty.")
        rows.append((where, root / file, caption, FOLDERS.get(split, "")))
    return rows


def _coco(path: Path, images: Path | None) -> list[tuple[str, Path, str, str]]:
    """The same of COCO's JSON, whose images have no part."""
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        files = {entry["id"]: entry["file_name"] for entry in held["images"]}
        said = [(entry["image_id"], str(entry["caption"])) for entry in held["annotations"]]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}).") from error
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not COCO's JSON of captions (no {error}): it has images with id and file_name, and annotations "
            "with image_id and caption."
        ) from error
    part = path.stem.removeprefix("captions_")
    above = [folder / name for folder in (path.parent, path.parent.parent) for name in ("", "images", part)]
    roots, first = [images] if images is not None else above, next(iter(files.values()), "")
    root = next((r for r in roots if (r / first).is_file()), roots[0])
    rows = []
    for i, (image, caption) in enumerate(said):
        if image not in files:
            raise DataError(f"{path}, annotation {i}: it speaks of the image {image}, which is not among its images.")
        rows.append((f"annotation {i}", root / files[image], caption, ""))
    return rows
