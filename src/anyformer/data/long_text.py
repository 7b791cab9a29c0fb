"""Texts as bytes, one class for each or one for two: Python's source, invented languages, the arena's files."""

from __future__ import annotations

import csv
import importlib.util
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from anyformer.core.errors import DataError, OptionError
from anyformer.data.images import Listing, deal, read_folder
from anyformer.data.splits import SPLITS
from anyformer.data.text import cut, read_text

MODULES = ("_pydecimal", "argparse", "pydoc", "tarfile", "turtle", "typing")
"""Modules of Python whose source is longest, and written in Python."""
PAIR_FILES = {"train": "train", "valid": "eval", "test": "test"}
"""How the arena's release names the parts of its pairs."""
Texts = tuple[list[bytes], list[int]]
Pairs = tuple[list[bytes], list[bytes], list[int]]


@cache
def sources() -> dict[str, dict[str, str]]:
    """The source of each of `MODULES`, cut into parts: train first, then valid, then test. It ships with Python."""
    found = {}
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise DataError(f"this Python comes without the module {name}, whose source is read here: give path=.")
        found[name] = cut(read_text(Path(spec.origin)), valid=0.15, test=0.15)
    return found


def stretches(length: int) -> dict[str, Texts]:
    """Stretches of `length` bytes of each module, one after the other, with the module's number."""
    if length < 16:
        raise OptionError(f"a stretch of source has 16 bytes or more; given {length}.")
    parts: dict[str, Texts] = {}
    for split in SPLITS:
        texts, labels = [], []
        for number, name in enumerate(MODULES):
            data = sources()[name][split].encode()
            cuts = [data[at : at + length] for at in range(0, len(data) - length + 1, length)]
            texts += cuts
            labels += [number] * len(cuts)
        parts[split] = texts, labels
    return parts


def languages(count: int, length: int, seed: int, kinds: int = 4) -> Texts:
    """So many texts of `length` bytes in invented languages, the same for all seeds, and the language of each.

    A language has twelve syllables of its own; a word has one to three of them.
    """
    maker, dice = random.Random(0), random.Random(seed)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    maker.shuffle(syllables)
    own = [syllables[12 * k : 12 * k + 12] for k in range(kinds)]
    texts, labels = [], []
    for i in range(count):
        text = ""
        while len(text) < length:
            text += "".join(dice.choices(own[i % kinds], k=dice.randint(1, 3))) + " "
        texts.append(text[:length].encode())
        labels.append(i % kinds)
    return texts, labels


def paired(texts: Sequence[bytes], labels: Sequence[int], count: int, seed: int) -> Pairs:
    """So many pairs of texts, every second one of one class (1) and every other one of two (0)."""
    by_class = [[i for i, k in enumerate(labels) if k == number] for number in sorted(set(labels))]
    generator = torch.Generator().manual_seed(seed)

    def pick(below: int) -> int:
        return int(torch.randint(below, (1,), generator=generator))

    first, second, same = [], [], []
    for i in range(count):
        here = pick(len(by_class))
        there = here if i % 2 else (here + 1 + pick(len(by_class) - 1)) % len(by_class)
        first.append(texts[by_class[here][pick(len(by_class[here]))]])
        second.append(texts[by_class[there][pick(len(by_class[there]))]])
        same.append(i % 2)
    return first, second, same


def read_texts(root: str | Path, seed: int = 0) -> tuple[dict[str, Texts], tuple[str, ...]]:
    """Parts and classes of text files in a folder as `list_texts` takes it, as bytes.

    Raises `DataError` as `list_texts`, and for an empty or unreadable text.
    """
    listing, dealt = list_texts(root, seed)
    parts = {
        s: ([_read(listing.paths[i]) for i in rows], [listing.labels[i] for i in rows]) for s, rows in dealt.items()
    }
    return parts, listing.classes


def list_texts(root: str | Path, seed: int = 0) -> tuple[Listing, dict[str, list[int]]]:
    """Text files `root/CLASS/TEXT.txt`, or `root/train/CLASS/TEXT.txt` and test, as IMDb has them; which are in a part.

    Parts that are not given are dealt out by `seed`. Raises `DataError` for what `read_folder` does not take, and for
    IMDb's texts without a class.
    """
    root = Path(root)
    if (root / "train" / "unsup").is_dir():
        raise DataError(f"{root / 'train' / 'unsup'} holds texts without a class: move it out of the folder.")
    listing = read_folder(root, None, (".txt",), "texts")
    return listing, deal(listing, list(range(len(listing.paths))), seed)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"the text {path} cannot be read: {error.strerror}.") from error
    if not data.strip():
        raise DataError(f"the text {path} is empty.")
    return data


def read_matches(root: str | Path) -> dict[str, Pairs]:
    """Pairs of documents from a folder of the release: `new_aan_pairs.train.tsv`, `.eval.tsv` and `.test.tsv`.

    Five columns without a header: label 0 or 1, both names, both texts. Raises `DataError` naming the file or the line
    that is wrong.
    """
    root = Path(root)
    parts: dict[str, Pairs] = {}
    for split, suffix in PAIR_FILES.items():
        files = sorted(root.glob(f"*.{suffix}.tsv"))
        if len(files) != 1:
            raise DataError(f"the folder {root} needs one file *.{suffix}.tsv of pairs; it has {len(files)}.")
        parts[split] = _pairs(files[0])
    return parts


def _pairs(path: Path) -> Pairs:
    first, second, labels = [], [], []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            csv.field_size_limit(1 << 30)
            rows = csv.reader(file, "excel-tab", quoting=csv.QUOTE_NONE)
            for row in rows:
                if len(row) != 5 or row[0] not in ("0", "1", "0.0", "1.0") or not row[3] or not row[4]:
                    raise DataError(
                        f"{path}, line {rows.line_num}: a line is label 0 or 1, two names and two texts, with tabs "
                        f"between; given {len(row)} columns, {str(row)[:60]}."
                    )
                labels.append(int(float(row[0])))
                first.append(row[3].encode())
                second.append(row[4].encode())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the pairs {path} cannot be read: {error}.") from error
    if not labels:
        raise DataError(f"the file {path} holds no pairs.")
    return first, second, labels


def table(texts: Sequence[Sequence[int]], length: int, shift: int = 0) -> tuple[Tensor, Tensor]:
    """Ids `(n, longest)`, cut off after `length` and filled up with 0, and how many of each row are valid.

    `shift` is added to all ids; with 1, a byte 0 is no padding.
    """
    lengths = torch.tensor([min(len(text), length) for text in texts])
    largest = max((max(text[:length], default=0) for text in texts), default=0) + shift
    kind = torch.int16 if largest < 1 << 15 else torch.int32  # large vocabularies need four bytes an id
    ids = torch.zeros(len(texts), int(lengths.max()), dtype=kind)
    for row, text in enumerate(texts):
        ids[row, : int(lengths[row])] = torch.tensor(list(text[:length]), dtype=kind) + shift
    return ids, lengths
