"""Classification of clips, whose parts share no subject: what a driver does, or where a square moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError
from anyformer.data import images as files
from anyformer.data.clips import DIRECTIONS, Clips, check_subjects, moving_squares, read_clips
from anyformer.data.pictures import Picture, beside, enlarge, gray
from anyformer.data.transforms import Augment
from anyformer.tasks.classification import Held, ImageClassification
from anyformer.tasks.task import measuring


class ClipClassification(ImageClassification):
    """One label per clip `(c, frames, h, w)`. Loss: cross-entropy. Metric: accuracy, on subjects of no other part.

    Args:
        parts: "train", "valid" and "test".
        classes: their names, in the order of the labels.
        normalization: mean and deviation that were taken off the pixels in [0, 1].

    Raises:
        DataError: two parts share a subject; fewer than two classes.
    """

    name = "clips"
    default_model = "video_swin_micro"

    def __init__(self, parts: dict[str, Clips], classes: Sequence[str], normalization: tuple[float, float]):
        check_subjects({split: part.subjects for split, part in parts.items()}, f"the task {self.name!r}")
        held = {split: Held(part.clips, part.labels) for split, part in parts.items()}
        self.clip = tuple(parts["train"].clips.shape[1:])
        self.subjects = {split: sorted(set(part.subjects.tolist())) for split, part in parts.items()}
        channels, _, height, width = self.clip
        super().__init__(held, classes, (channels, height, width), normalization, Augment())

    def model_options(self) -> dict[str, Any]:
        return super().model_options() | {"frames": self.clip[1]}

    def prepare(self, image: Any) -> Tensor:
        """A clip `(c, frames, h, w)`, normalized."""
        if not isinstance(image, Tensor) or tuple(image.shape) != self.clip:
            raise DataError(f"the task {self.name!r} takes tensors {self.clip}: channels, frames, rows and columns.")
        return image

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The frames of each clip in a row, `(h, w, 3)` uint8, and the name of the class."""
        part = self.parts[self.check_split(split)]
        clips = part.read(torch.arange(min(n, self.size(split))))
        labels = part.labels[: len(clips)].tolist()
        return [{"input": strip(c), "truth": self.classes[k]} for c, k in zip(clips, labels, strict=True)]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        part = self.parts[self.check_split(split)]
        clips = part.read(torch.arange(min(n, self.size(split))))
        with measuring(model) as device:
            guesses = model(clips.to(device)).argmax(-1).tolist()
        names = [(self.classes[g], self.classes[t]) for g, t in zip(guesses, part.labels.tolist(), strict=False)]
        return [Picture(f"{guess}, in truth {truth}", strip(c)) for c, (guess, truth) in zip(clips, names, strict=True)]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "frames": self.clip[1], "subjects": self.subjects}


class DriverClips(ClipClassification):
    """Your clips of drivers, dealt out by driver; or generated ones, of a moving square, where no folder is given.

    Wharton et al. 2022, arXiv:2207.12148, whose model of drowsiness did not carry over to new drivers. The generated
    clips are of 20 "drivers" who differ in the look and the speed of their squares; the label is where these move to.

    Args:
        path: a folder of frames `SUBJECT/CLASS/VIDEO/`.
        frames, image_size: of a clip.
        channels: 3 for colour, 1 for grey; of files.
        interval: steps between the frames that are taken of a video.
        samples: generated clips, of all parts together.
        seed: subjects are dealt out by it, and clips generated.

    Raises:
        DataError: a folder that holds no clips, videos that are too short, fewer than two classes or three subjects.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        frames: int = 8,
        image_size: int = 32,
        channels: int = 3,
        interval: int = 1,
        samples: int = 2000,
        seed: int = 0,
    ):
        if path is None:
            parts = moving_squares(samples, frames=frames, side=image_size, seed=seed)
            super().__init__(parts, DIRECTIONS, (0.0, 1.0))
        else:
            options = {"interval": interval, "side": image_size, "channels": channels, "seed": seed}
            super().__init__(*read_clips(Path(path), length=frames, **options), (files.MEAN, files.STD))


def strip(clip: Tensor) -> Any:
    """The frames of a clip in a row, in shades from its darkest to its lightest."""
    shades = clip.mean(0).numpy()
    return enlarge(beside([gray(frame, shades.min(), shades.max()) for frame in shades], gap=1), 2)


TASKS = {"clips": DriverClips}
