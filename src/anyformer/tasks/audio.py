"""Sound classification: made sounds that are always there, and your folders; models see log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anyformer.core.errors import DataError, OptionError
from anyformer.data import audio as files
from anyformer.data.images import deal, read_folder
from anyformer.data.pictures import Picture, Pixels, gray
from anyformer.data.transforms import Augment
from anyformer.layers.spectral.mel import KaldiLogMel
from anyformer.tasks.classification import Held, ImageClassification
from anyformer.tasks.task import Baseline, measuring

MEAN, DEVIATION = -4.2677393, 2 * 4.5689974
"""AST's constants for AudioSet."""

CHUNK = 256
"""Sounds whose spectrograms are made at once."""


class Audio(ImageClassification):
    """One label per sound. Loss: cross-entropy. Metric: accuracy; beside it what `ImageClassification` measures.

    A model gets `(1, mels, frames)`: log-mel energies in windows of 25 ms every 10 ms, as Kaldi computes them. Any
    image model that takes images of that shape serves.

    Args:
        path: a folder `CLASS/SOUND`, or `train/CLASS/SOUND` with `valid` (or `val`) and `test` beside it. None: made
            sounds of eight kinds; see `data.audio.sounds`.
        seconds: of every sound; longer files are cut, shorter ones end in silence.
        rate: samples a second; a file of another rate is an error.
        mels: bands of the spectrogram.
        classes: their names, where a folder's own are not to be trusted; another folder is then an error.
        seed: of the dealing out, and of the made sounds.

    Raises:
        DataError: a file that is missing, unreadable, or of another rate; a folder without classes.
    """

    name = "audio"
    default_model = "ast_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        seconds: float = 0.5,
        rate: int = files.RATE,
        mels: int = 64,
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ):
        if path is None and rate != files.RATE:
            raise OptionError(f"made sounds have {files.RATE} samples a second; given rate={rate} without a path.")
        if not 0.1 <= seconds <= 30:
            raise OptionError(f"sounds last 0.1 to 30 seconds; given seconds={seconds}.")
        self.rate, self.samples = rate, round(seconds * rate)
        self.made = path is None
        self.spectrogram = KaldiLogMel(
            mels, rate=rate, window=rate // 40, hop=rate // 100, mean=MEAN, deviation=DEVIATION
        )
        if path is None:
            waves, names = files.sounds(seconds, seed), list(files.KINDS)
        else:
            waves, names = self.read(Path(path), classes, seed)
        parts = {split: Held(self.pictured(sounds), labels) for split, (sounds, labels) in waves.items()}
        shape = (1, mels, self.spectrogram.frames(self.samples))
        super().__init__(parts, names, shape, (0.6, 0.5), Augment())

    def read(
        self, root: Path, classes: Sequence[str] | None, seed: int
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
        """Waves and labels of each part of a folder, and its classes."""
        listing = read_folder(root, classes, files.SUFFIXES, "sounds")
        waves = torch.stack([self.fitted(path) for path in listing.paths])
        labels = torch.tensor(listing.labels)
        parts = deal(listing, list(range(len(labels))), seed)
        return {split: (waves[rows], labels[rows]) for split, rows in parts.items()}, list(listing.classes)

    def fitted(self, path: Path) -> Tensor:
        """The samples of a file, as many as every sound has."""
        return files.fitted(files.read_sound(path, self.rate), self.samples)

    def pictured(self, waves: Tensor) -> Tensor:
        """`(b, 1, mels, frames)` of waves `(b, samples)`."""
        with torch.no_grad():
            return torch.cat([self.spectrogram(chunk) for chunk in waves.split(CHUNK)])[:, None]

    def model_options(self) -> dict[str, Any]:
        return {"num_classes": len(self.classes), "in_channels": 1, "image_size": self.shape[1:]}

    def baseline(self, split: str = "valid") -> Baseline:
        """The most frequent class; its margin is known for the made sounds alone."""
        found = super().baseline(split)
        return Baseline(found.what, found.value, 0.5 if self.made else 0.0)

    def prepare(self, sound: Any) -> Tensor:
        """`(1, mels, frames)`: from the path of a sound file, a wave `(samples,)`, or a spectrogram, which is kept."""
        if isinstance(sound, Tensor) and sound.dim() == 1:
            return self.pictured(files.fitted(sound, self.samples)[None])[0]
        if isinstance(sound, Tensor):
            if tuple(sound.shape) != self.shape:
                raise DataError(f"the task {self.name!r} takes spectrograms {self.shape}; given {tuple(sound.shape)}.")
            return sound
        return self.pictured(self.fitted(Path(sound))[None])[0]

    def drawn(self, spectrogram: Tensor) -> Pixels:
        """A spectrogram in shades of grey, high tones on top."""
        return gray(spectrogram[0].flip(0).numpy())

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Pixels of the spectrogram `(mels, frames, 3)` uint8 and the name of the class."""
        part = self.parts[self.check_split(split)]
        indices = torch.arange(min(n, self.size(split)))
        pairs = zip(part.read(indices), part.labels[indices].tolist(), strict=True)
        return [{"input": self.drawn(x), "truth": self.classes[k]} for x, k in pairs]

    def pictures(self, model: torch.nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Spectrograms, with the class and what the model takes it for."""
        part = self.parts[self.check_split(split)]
        images = part.read(torch.arange(min(n, self.size(split))))
        with measuring(model) as device:
            guesses = model(images.to(device)).argmax(-1).tolist()
        return [
            Picture(f"{self.classes[int(truth)]}, taken for {self.classes[guess]}", self.drawn(image))
            for image, truth, guess in zip(images, part.labels, guesses, strict=False)
        ]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "rate": self.rate, "samples": self.samples}


TASKS = {"audio": Audio}
