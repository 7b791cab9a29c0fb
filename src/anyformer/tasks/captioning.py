"""Captioning: a sentence for an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError, require
from anyformer.core.segments import Segments
from anyformer.data import images as files
from anyformer.data.captions import Words, read_captions, scenes, words
from anyformer.data.images import HeldPixels, Pixels
from anyformer.data.pictures import Picture, colour, enlarge
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.data.splits import SPLITS
from anyformer.tasks.cider import Cider
from anyformer.tasks.task import IGNORE, Baseline, Batch, Task, measuring
from anyformer.tasks.texts import padded
from anyformer.tasks.translation import END, MARKS, PAD, START, token_loss

CHOICE = 0
"""Which of a sample's random numbers chooses among its captions."""


class Captioning(Task):
    """A sentence for an image. Loss: cross-entropy of each next word.

    Captions are compared by their words in lower case. Metrics let the model write by itself: exact match with one of
    an image's captions, CIDEr-D against all of them; beside them the accuracy per token, given the truth so far.

    Args:
        parts: images of "train", "valid" and "test".
        captions: of the same parts; each image has one or more.
        shape: channels, height and width of every image.
        least: words that stand in the training captions fewer times are not known.
        beams: how many sentences are held while the model writes; 1 takes the likeliest word each time.
    """

    higher_is_better = True
    default_model = "cptr_micro"
    margin: ClassVar[float] = 0.0

    def __init__(
        self,
        parts: dict[str, Any],
        captions: dict[str, list[list[str]]],
        shape: tuple[int, int, int],
        least: int = 1,
        beams: int = 1,
    ):
        if beams < 1:
            raise OptionError(f"beams is 1 or more; given {beams}.")
        self.parts: dict[str, Pixels] = parts
        self.captions, self.shape, self.beams = captions, shape, beams
        self.tokenizer = Words((c for own in captions["train"] for c in own), least)
        self.encoded = {
            split: [[[k + MARKS for k in self.tokenizer.encode(c)] for c in own] for own in captions[split]]
            for split in SPLITS
        }
        self.longest = max(len(c) for split in SPLITS for own in self.encoded[split] for c in own) + 1
        self._plain = {split: [[words(c) for c in own] for own in captions[split]] for split in SPLITS}
        self._ciders: dict[str, Cider] = {}

    def model_options(self) -> dict[str, Any]:
        return {
            "vocab_size": self.tokenizer.vocab_size + MARKS,
            "max_length": self.longest,
            "in_channels": self.shape[0],
            "image_size": self.shape[1],
        }

    def size(self, split: str) -> int:
        return len(self.captions[self.check_split(split)])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "images" `(b, c, h, w)`; "target" `(b, t)`, which starts with START; "labels" `(b, t)`, which end with END.

        Of several captions, training draws one, and measuring takes the first. Padding is PAD in "target", `IGNORE` in
        "labels".
        """
        draws = uniform(sample_seeds(seed, indices), CHOICE).tolist() if train else [0.0] * len(indices)
        own = [self.encoded[self.check_split(split)][i] for i in indices.tolist()]
        chosen = [captions[int(draw * len(captions))] for captions, draw in zip(own, draws, strict=True)]
        return {
            "images": self.parts[split].read(indices),
            "target": padded([[START, *c] for c in chosen], PAD),
            "labels": padded([[*c, END] for c in chosen], IGNORE),
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        return token_loss(_logits(model, batch), batch["labels"], label_smoothing)

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORE).sum())

    def baseline(self, split: str = "valid") -> Baseline:
        """The most frequent caption of the training part, whatever the image."""
        counts = Counter(" ".join(c) for own in self._plain["train"] for c in own)
        guess = max(sorted(counts), key=lambda caption: counts[caption])
        value = self.scores(self.check_split(split), [guess] * self.size(split))[self.metric]
        return Baseline(f"{guess!r} for every image", value, self.margin)

    def scores(self, split: str, guesses: Sequence[str]) -> dict[str, float]:
        """Exact match and CIDEr-D of a caption for each image of a part."""
        plain = self._plain[split]
        if split not in self._ciders:
            self._ciders[split] = Cider(plain)
        written = [words(guess) for guess in guesses]
        exact = sum(guess in own for guess, own in zip(written, plain, strict=True)) / len(plain)
        return {"exact_match": exact, "cider": float(self._ciders[split](written).mean())}

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """`scores`, token accuracy, mean loss in nats per token, and "guesses" (the captions that were written)."""
        right = tokens = 0
        nats = 0.0
        guesses: list[str] = []
        with measuring(model) as device:
            for _, batch in self.batches(split, min(batch_size, 64), device):
                logits, count = _logits(model, batch), self.count(batch)
                nats += float(token_loss(logits, batch["labels"])) * count
                right += int((logits.argmax(-1) == batch["labels"]).sum())
                tokens += count
                guesses += self.write(model, batch["images"])
        return {
            **self.scores(split, guesses),
            "token_accuracy": right / tokens,
            "loss": nats / tokens,
            "guesses": guesses,
        }

    def write(self, model: nn.Module, images: Tensor) -> list[str]:
        """The caption that a model writes for each of normalized images `(b, c, h, w)`, on the model's device.

        Raises `FitError` for a model that writes no sentences.
        """
        check_writes(model)
        write: Any = model.generate
        return [self._text(row) for row in write(images, max_new_tokens=self.longest, beams=self.beams).tolist()]

    def _text(self, row: Sequence[int]) -> str:
        """The words of a row of tokens, up to its END."""
        body = row[: row.index(END)] if END in row else row
        return self.tokenizer.decode([k - MARKS for k in body if k >= MARKS])

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """The caption of image files (paths) or normalized images (tensors `(c, h, w)`)."""
        if len(inputs) == 0:
            return []
        images = torch.stack([self.prepare(given) for given in inputs])
        with measuring(model) as device:
            written = self.write(model, images.to(device))
        return [
            {"input": str(given) if isinstance(given, str | Path) else None, "output": caption}
            for given, caption in zip(inputs, written, strict=True)
        ]

    def prepare(self, image: Any) -> Tensor:
        """`(c, h, w)`, normalized: from the path of an image file, or a tensor of that shape, which is kept."""
        if isinstance(image, Tensor):
            if tuple(image.shape) != self.shape:
                raise DataError(f"the task {self.name!r} takes images {self.shape}; given {tuple(image.shape)}.")
            return image
        pixels = files.read_image(Path(image), self.shape[0], self.shape[1])
        return files.normalize(pixels, files.MEAN, files.STD)

    def _pixels(self, split: str, n: int) -> tuple[Tensor, list[Any]]:
        """The first `n` images, normalized, and as pixels `(h, w, 3)`."""
        images = self.parts[self.check_split(split)].read(torch.arange(min(n, self.size(split))))
        return images, [colour((image * files.STD + files.MEAN).numpy()) for image in images]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Each image, with the caption that the model writes and the truth."""
        images, pixels = self._pixels(split, n)
        with measuring(model) as device:
            written = self.write(model, images.to(device))
        factor = max(1, 160 // self.shape[2])
        return [
            Picture(f"{guess} (truth: {own[0]})", enlarge(image, factor))
            for image, guess, own in zip(pixels, written, self.captions[split], strict=False)
        ]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Pixels `(h, w, 3)` uint8 and the first caption's words."""
        _, pixels = self._pixels(split, n)
        return [
            {"input": image, "truth": " ".join(own[0])} for image, own in zip(pixels, self._plain[split], strict=False)
        ]

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "sizes": {split: self.size(split) for split in SPLITS},
            "captions": {split: sum(map(len, self.captions[split])) for split in SPLITS},
            "vocab_size": self.tokenizer.vocab_size,
            "shape": list(self.shape),
            "beams": self.beams,
        }


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """`(b, t, vocab)` float32; padding is told to the model as segments."""
    check_writes(model)
    target = batch["target"]
    return model(batch["images"], target, target_segments=Segments.from_mask(target != PAD)).float()


def check_writes(model: nn.Module) -> None:
    """Raise `FitError` for a model that writes no sentences about images."""
    if not (hasattr(model, "generate") and hasattr(model, "image_size")):
        name = getattr(model, "name", "") or type(model).__name__
        raise FitError(f"captioning takes a model that writes about an image, such as cptr_micro; given {name}.")


class Scenes(Captioning):
    """Two coloured shapes and how they lie: "a red disc left of a blue square"; generated. Metric: exact match.

    Args:
        images: to train on; 400 each to choose by and to test.
        image_size: in pixels.
        beams: as `Captioning`'s.
        seed: of the scenes.

    Raises:
        OptionError: fewer than one image, sizes below 16.
    """

    name = "captioning"
    metric = "exact_match"
    margin = 0.3

    def __init__(self, images: int = 6000, image_size: int = 24, beams: int = 1, seed: int = 0):
        if images < 1:
            raise OptionError(f"images is 1 or more; given {images}.")
        counts = {"train": images, "valid": 400, "test": 400}
        made = {s: scenes(n, image_size, 3 * seed + i) for i, (s, n) in enumerate(counts.items())}
        captions = {split: [[caption] for caption in said] for split, (_, said, _) in made.items()}
        parts = {split: HeldPixels(pixels) for split, (pixels, _, _) in made.items()}
        super().__init__(parts, captions, (3, image_size, image_size), beams=beams)


class CaptionedImages(Captioning):
    """Your images with captions. Metric: CIDEr-D; beside it BLEU-4. Needs the extra [vision].

    Args:
        path: a folder with `captions.csv`, such a table, or COCO's JSON of captions; see `data.captions.read_captions`.
            Parts that are not given are dealt out by `seed`, 15 % each.
        image_size: images are resized so that the shorter side is this, and the middle is cut out.
        channels: 3 for colour, 1 for grey.
        images: folder at which the names of the image files start.
        least: words that stand in the training captions fewer times are not known.
        beams: as `Captioning`'s.
        encoding: of the table.
        seed: of the dealing out.
    """

    name = "captioned_images"
    metric = "cider"

    def __init__(
        self,
        path: str | Path,
        image_size: int = 64,
        channels: int = 3,
        images: str | Path | None = None,
        least: int = 1,
        beams: int = 3,
        encoding: str = "utf-8",
        seed: int = 0,
    ):
        require("torchmetrics", "vision")  # before a run, not at its end
        listing, said = read_captions(Path(path), None if images is None else Path(images), encoding)
        parts, _ = files.open_parts(listing, image_size, channels, "raise", seed)
        captions = {split: [said[file] for file in part.paths] for split, part in parts.items()}
        self.ahead = 2
        super().__init__(parts, captions, (channels, image_size, image_size), least, beams)

    def scores(self, split: str, guesses: Sequence[str]) -> dict[str, float]:
        """Exact match, CIDEr-D and BLEU-4 (Papineni et al. 2002, over the whole part)."""
        bleu = require("torchmetrics.functional.text", "vision").bleu_score
        written = [" ".join(words(guess)) for guess in guesses]
        truth = [[" ".join(c) for c in own] for own in self._plain[split]]
        return {**super().scores(split, guesses), "bleu4": float(bleu(written, truth, n_gram=4))}


TASKS = {"captioning": Scenes, "captioned_images": CaptionedImages}
