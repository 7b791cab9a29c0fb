"""The Long Range Arena: long sequences of ids with one class each, or one for two of them.

Tay et al. 2020, arXiv:2011.04006. Each task ships a small form of itself and reads the files of the release; compare
mixers on one by `anyformer compare lra_micro lra_micro+mixer=linear_attention --task listops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError
from anyformer.data import listops, long_text, pathfinder
from anyformer.data.digits import MEAN, STD, digits
from anyformer.data.images import deal, read_folder
from anyformer.data.pictures import Picture, enlarge, gray
from anyformer.data.pixels import read_image
from anyformer.data.seeds import combine, parts_to_draw
from anyformer.data.splits import stratified
from anyformer.tasks.sequences import SequenceClassification
from anyformer.tasks.task import measuring, to_device


class ListOps(SequenceClassification):
    """The value, 0 to 9, of nested operations on digits, read as tokens.

    Args:
        path: a folder with the release's basic_train.tsv, basic_val.tsv and basic_test.tsv; generated where not given.
        length: the longest expression; the arena's are up to 2,000 tokens, those of files are cut off there.
        shortest, depth, arguments: of generated ones, as `data.listops.expressions` takes them.
        samples: generated ones to train on; a sixth as many are in each other part.
        seed: of the generated ones.

    Raises:
        DataError: a file that is missing or none, a value that is not that of its expression.
    """

    name = "listops"
    margin = 0.25

    def __init__(
        self,
        path: str | Path | None = None,
        length: int = 64,
        shortest: int = 8,
        depth: int = 10,
        arguments: int = 10,
        samples: int = 6000,
        seed: int = 0,
    ):
        if path is None:
            other = max(1, samples // 6)
            bounds = {"shortest": shortest, "longest": length, "depth": depth, "arguments": arguments}
            drawn = listops.expressions(samples + 2 * other, **bounds, seed=seed)
            found = {"test": drawn[:other], "valid": drawn[other : 2 * other], "train": drawn[2 * other :]}
        else:
            found = {
                split: listops.read_listops(Path(path) / f"basic_{name}.tsv")
                for split, name in {"train": "train", "valid": "val", "test": "test"}.items()
            }
        parts = {
            split: ([long_text.table([listops.encode(e) for e, _ in rows], length)], torch.tensor([v for _, v in rows]))
            for split, rows in found.items()
        }
        source = "generated" if path is None else str(path)
        super().__init__(
            parts, [str(d) for d in range(10)], vocab_size=len(listops.TOKENS), length=length, source=source
        )

    def encode(self, given: Any) -> list[list[int]]:
        """An expression such as "[MAX 2 9 [MIN 4 7 ] 0 ]"."""
        listops.evaluate(given)
        return [listops.encode(given)]

    def show(self, ids: list[int]) -> str:
        return " ".join(listops.TOKENS[i] for i in ids)


class ByteText(SequenceClassification):
    """A text's class from its bytes, which are numbered from 1.

    Args:
        path: text files CLASS/TEXT.txt, or train/CLASS/TEXT.txt and test beside it, as IMDb's reviews are; stretches of
            the source of Python's own modules, and which module it is, where not given.
        length: bytes that are read of a text; the arena's are 1,000 to 4,000.
        seed: of the dealing out of files.

    Raises:
        DataError: as `data.long_text.read_texts`.
    """

    name = "byte_text"
    margin = 0.2

    def __init__(self, path: str | Path | None = None, length: int = 256, seed: int = 0):
        if path is None:
            found, classes = long_text.stretches(length), long_text.MODULES
        else:
            found, classes = long_text.read_texts(path, seed)
        parts = {s: ([long_text.table(texts, length, shift=1)], torch.tensor(k)) for s, (texts, k) in found.items()}
        source = "Python's modules" if path is None else str(path)
        super().__init__(parts, classes, vocab_size=257, length=length, source=source)

    def encode(self, given: Any) -> list[list[int]]:
        return [_bytes(given)]

    def show(self, ids: list[int]) -> str:
        return bytes(i - 1 for i in ids).decode(errors="replace")


class Matching(SequenceClassification):
    """Whether two texts belong together, from the bytes of each, read by two towers.

    Args:
        path: a folder with the release's new_aan_pairs.train.tsv, .eval.tsv and .test.tsv; texts in invented languages,
            and whether both are in one, where not given.
        length: bytes that are read of each; the arena's are 4,000.
        samples: pairs to train on where no path is given; a sixth as many are in each other part.
        seed: of these pairs.

    Raises:
        DataError: as `data.long_text.read_matches`.
    """

    name = "byte_matching"
    default_model = "lra_retrieval_micro"
    margin = 0.2

    def __init__(self, path: str | Path | None = None, length: int = 128, samples: int = 3000, seed: int = 0):
        if path is None:
            found = {
                split: long_text.paired(*long_text.languages(2 * count, length, own), count, own)
                for split, count, own in parts_to_draw(samples, max(1, samples // 6), seed)
            }
        else:
            found = long_text.read_matches(path)
        parts = {
            split: ([long_text.table(texts, length, shift=1) for texts in (first, second)], torch.tensor(same))
            for split, (first, second, same) in found.items()
        }
        source = "invented languages" if path is None else str(path)
        super().__init__(parts, ("apart", "together"), vocab_size=257, length=length, source=source)

    def encode(self, given: Any) -> list[list[int]]:
        """A pair of texts, or one string with a tab between them."""
        pair = given.split("\t") if isinstance(given, str) else list(given)
        if len(pair) != 2:
            raise DataError(f"the task {self.name!r} takes two texts, with a tab between them; given {len(pair)}.")
        return [_bytes(text) for text in pair]

    def show(self, ids: list[int]) -> str:
        return bytes(i - 1 for i in ids).decode(errors="replace")


class PixelSequences(SequenceClassification):
    """Square grey pictures as sequences of their pixels: each level of grey is an id. `pictures` shows them.

    Args:
        found: for each part the pixels `(n, side, side)` of bytes and the labels.
        classes, source: as `SequenceClassification`'s.
        levels: of grey.
    """

    def __init__(
        self, found: dict[str, tuple[Tensor, Tensor]], classes: Sequence[str], *, source: str, levels: int = 256
    ):
        self.side = found["train"][0].shape[-1]
        parts = {}
        for split, (pixels, labels) in found.items():
            ids = pixels.flatten(1).to(torch.int16)
            parts[split] = ([(ids, torch.full((len(ids),), ids.shape[1]))], labels)
        super().__init__(parts, classes, vocab_size=levels, length=self.side**2, source=source)

    def encode(self, given: Any) -> list[list[int]]:
        """The path of a picture, or pixels `(side, side)` of bytes. Raises `DataError` for other sizes."""
        pixels = given if isinstance(given, Tensor) else _grey(Path(given), self.side)
        if tuple(pixels.shape) != (self.side, self.side):
            raise DataError(f"the task {self.name!r} takes pictures of {self.side} x {self.side} grey pixels.")
        return [pixels.flatten().tolist()]

    def show(self, ids: list[int]) -> Any:
        pixels = torch.tensor(ids, dtype=torch.float32).view(self.side, self.side)
        return gray(pixels.numpy(), 0, self.vocab_size - 1)

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """The first pictures, with their class and what the model says."""
        shown = self.examples(split, n)
        batch = self.sample(split, torch.arange(len(shown)))
        with measuring(model) as device:
            guesses = self.logits(model, to_device(batch, device)).argmax(-1).tolist()
        factor = max(1, 128 // self.side)
        return [
            Picture(f"{e['truth']}; guessed {self.classes[g]}", enlarge(e["input"], factor))
            for e, g in zip(shown, guesses, strict=True)
        ]


class PixelImages(PixelSequences):
    """What a picture shows, from its pixels one after the other.

    Args:
        path: a folder with a folder of pictures for each class, CIFAR-10's say, read as grey; scikit-learn's digits of
            8x8 pixels and 17 levels where not given.
        image_size: pixels of a side of pictures from files; the arena's are 32.
        seed: of the dealing out of files.

    Raises:
        DataError: as `data.images.read_folder`.
    """

    name = "pixel_images"
    margin = 0.3

    def __init__(self, path: str | Path | None = None, image_size: int = 32, seed: int = 0):
        if path is None:
            found = {s: (((x[:, 0] * STD + MEAN) * 16).round(), y) for s, (x, y) in digits().items()}
            super().__init__(found, [str(d) for d in range(10)], source="scikit-learn's digits", levels=17)
            return
        listing = read_folder(Path(path))
        labels = torch.tensor(listing.labels)
        files = {
            split: (torch.stack([_grey(listing.paths[i], image_size) for i in rows]), labels[rows])
            for split, rows in deal(listing, list(range(len(labels))), seed).items()
        }
        super().__init__(files, listing.classes, source=str(path))


class Pathfinder(PixelSequences):
    """Whether a dashed line joins two dots, from the pixels of the picture one after the other.

    Args:
        path: one of the release's folders, pathfinder32/curv_baseline say; generated where not given.
        size: pixels of a side: 32 in the arena, 128 for Path-X; files are resized to it. None: 32 of files, and 8 of
            generated pictures, so small that how far the dots are apart tells much.
        path_length, distractors: of generated pictures, as `data.pathfinder.draw` takes them.
        samples: generated ones to train on; a sixth as many are in each other part.
        seed: of the generated ones, and of the dealing out of files.

    Raises:
        DataError: as `data.pathfinder.read_pathfinder`.
        OptionError: as `data.pathfinder.draw`.
    """

    name = "pathfinder"
    margin = 0.2

    def __init__(
        self,
        path: str | Path | None = None,
        size: int | None = None,
        path_length: int | None = None,
        distractors: int = 0,
        samples: int = 4000,
        seed: int = 0,
    ):
        classes = ("apart", "joined")
        size = (8 if path is None else 32) if size is None else size
        if path is None:
            found = {
                split: _drawn(size, path_length, distractors, count, own)
                for split, count, own in parts_to_draw(samples, max(1, samples // 6), seed)
            }
            super().__init__(found, classes, source="generated")
            return
        files, labels = pathfinder.read_pathfinder(path)
        held, given = torch.stack([_grey(file, size) for file in files]), torch.tensor(labels)
        rows = stratified(labels, valid=0.1, test=0.1, seed=seed)
        super().__init__({s: (held[r], given[r]) for s, r in rows.items()}, classes, source=str(path))


def _grey(path: Path, side: int) -> Tensor:
    """A picture's pixels `(side, side)` as levels of grey, 0 to 255."""
    return (read_image(path, 1, side)[0] * 255).round().to(torch.uint8)


def _drawn(size: int, length: int | None, distractors: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many generated pictures and their labels."""
    options = {"length": length, "distractors": distractors}
    drawings = [pathfinder.draw(size, **options, seed=combine(seed, i)) for i in range(count)]
    pixels = torch.stack([torch.from_numpy(d.pixels) for d in drawings])
    return pixels, torch.tensor([int(d.joined) for d in drawings])


def _bytes(text: Any) -> list[int]:
    """A text's bytes, numbered from 1."""
    if not isinstance(text, str | bytes) or not text:
        raise DataError(f"a text is a string or bytes with something in them; given {text!r}.")
    return [b + 1 for b in (text.encode() if isinstance(text, str) else text)]


TASKS = {
    "listops": ListOps,
    "byte_text": ByteText,
    "byte_matching": Matching,
    "pixel_images": PixelImages,
    "pathfinder": Pathfinder,
}
