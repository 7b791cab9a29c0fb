"""Clips of drivers: which frames of a video make a clip, parts that share no subject, and squares that move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anyformer.core.errors import DataError, OptionError
from anyformer.data import images as files
from anyformer.data.seeds import combine
from anyformer.data.splits import SPLITS

DIRECTIONS = ("right", "down", "left", "up")
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Rows and columns that a square moves by from frame to frame, times its speed."""


@dataclass(frozen=True)
class Clips:
    """Clips `(n, c, frames, h, w)` float32, labels `(n,)` int64 and the subject of each `(n,)` int64."""

    clips: Tensor
    labels: Tensor
    subjects: Tensor


def clip_frames(total: int, length: int, *, interval: int = 1, clips: int = 1) -> np.ndarray:
    """Which frames of a video make its clips, `(clips, length)`: every `interval`-th, the clips evenly spread.

    As action recognition tests (Video Swin's 4 clips, arXiv:2106.13230, section 4.1). One clip lies in the middle.

    Raises:
        DataError: a video that is shorter than a clip.
        OptionError: a length, interval or number of clips below 1.
    """
    if min(length, interval, clips) < 1:
        raise OptionError(f"length, interval and clips are 1 or more; given {length}, {interval} and {clips}.")
    reach = (length - 1) * interval + 1
    if total < reach:
        raise DataError(
            f"a clip of {length} frames, every {interval}. of them, takes {reach} frames; the video has {total}: take "
            f"length={max((total - 1) // interval + 1, 1)} or less, a smaller interval, or a longer video."
        )
    room = total - reach
    starts = [room // 2] if clips == 1 else [round(room * k / (clips - 1)) for k in range(clips)]
    return np.asarray(starts)[:, None] + interval * np.arange(length)


def by_subject(
    subjects: Sequence[int] | np.ndarray, valid: float = 0.2, test: float = 0.2, seed: int = 0
) -> dict[str, np.ndarray]:
    """Indices of each part, such that all clips of a subject are in one part.

    Args:
        subjects: of each clip.
        valid, test: fractions of the subjects, at least one each.
        seed: the order in which subjects are dealt out.

    Raises:
        DataError: fewer than three subjects.
    """
    subjects = np.asarray(subjects)
    names = np.unique(subjects)
    if len(names) < 3:
        raise DataError(f"three parts that share no subject take three subjects or more; given {len(names)}.")
    names = np.random.RandomState(seed).permutation(names)
    tested = max(round(len(names) * test), 1)
    chosen = max(min(round(len(names) * valid), len(names) - tested - 1), 1)
    held = {"test": names[:tested], "valid": names[tested : tested + chosen], "train": names[tested + chosen :]}
    return {split: np.flatnonzero(np.isin(subjects, held[split])) for split in SPLITS}


def check_subjects(parts: Mapping[str, Sequence[int] | np.ndarray | Tensor], where: object) -> None:
    """Raise `DataError` where two parts share a subject, by which a model could know the answers."""
    seen: dict[int, str] = {}
    for split, subjects in parts.items():
        for subject in np.unique(np.asarray(subjects)).tolist():
            if subject in seen:
                raise DataError(
                    f"{where}: subject {subject} is in the {seen[subject]} and in the {split} part, so that what is "
                    "measured there says nothing about new drivers: deal clips out by subject (data.clips.by_subject)."
                )
            seen[subject] = split


def moving_squares(
    clips: int, *, subjects: int = 20, frames: int = 8, side: int = 32, seed: int = 0
) -> dict[str, Clips]:
    """Generated clips of one square that moves right, down, left or up, dealt out by subject.

    What stands for a driver: the square's size, shade and speed and the background are a subject's own; where it starts
    and where it moves to, the label, is random. The frame wraps around, so no frame alone tells the label.

    Args:
        clips: of all parts together.
        subjects: drivers; a fifth of them to choose by, a fifth to test.
        frames, side: of a clip.
        seed: of all that is random.
    """
    generator = torch.Generator().manual_seed(combine(seed, 0))
    sizes = torch.randint(side // 6, side // 3, (subjects,), generator=generator)
    speeds = torch.randint(1, 4, (subjects,), generator=generator)
    shades = 0.6 + 0.8 * torch.rand(subjects, generator=generator)
    grounds = 0.3 * torch.randn(subjects, side, side, generator=generator)
    who = torch.randint(subjects, (clips,), generator=generator)
    labels = torch.randint(len(STEPS), (clips,), generator=generator)
    starts = torch.randint(side, (clips, 2, 1), generator=generator)
    moved = torch.tensor(STEPS)[labels][..., None] * speeds[who][:, None, None] * torch.arange(frames)
    rows, columns = ((starts + moved) % side).unbind(1)  # (clips, frames) of the square's corner
    inside = [(torch.arange(side) - corner[..., None]) % side < sizes[who][:, None, None] for corner in (rows, columns)]
    square = (inside[0][..., :, None] & inside[1][..., None, :]).float()
    pixels = grounds[who][:, None] + 2 * shades[who][:, None, None, None] * square
    pixels = pixels + 0.2 * torch.randn(pixels.shape, generator=generator)
    found = by_subject(who.numpy(), seed=seed)
    parts = {s: Clips(pixels[rows_of][:, None], labels[rows_of], who[rows_of]) for s, rows_of in found.items()}
    check_subjects({split: part.subjects for split, part in parts.items()}, "the generated clips")
    return parts


def read_clips(
    root: Path, *, length: int = 8, interval: int = 1, clips: int = 1, side: int = 64, channels: int = 3, seed: int = 0
) -> tuple[dict[str, Clips], tuple[str, ...]]:
    """Parts and classes from `root/SUBJECT/CLASS/VIDEO/`, a folder of frames in the order of their names.

    Args:
        root: the folder.
        length, interval, clips: of the clips of each video, as `clip_frames` takes them.
        side, channels: frames are resized so that the shorter side is this, and the middle is cut out.
        seed: subjects are dealt out by it.

    Raises:
        DataError: no such folder, a video that is too short or has no frames, fewer than two classes or three subjects.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}: give one with frames in SUBJECT/CLASS/VIDEO/.")
    videos = sorted(p for p in root.glob("*/*/*") if p.is_dir())
    if not videos:
        raise DataError(f"{root} holds no folder SUBJECT/CLASS/VIDEO/ of frames.")
    subjects = sorted({p.parts[-3] for p in videos})
    classes = tuple(sorted({p.parts[-2] for p in videos}))
    if len(classes) < 2:
        raise DataError(f"{root} holds clips of one class, {', '.join(classes)}; two or more are needed.")
    pixels, labels, who = [], [], []
    for video in videos:
        frames = sorted(p for p in video.iterdir() if p.suffix.lower() in files.SUFFIXES)
        try:
            chosen = clip_frames(len(frames), length, interval=interval, clips=clips)
        except DataError as error:
            raise DataError(f"{video}: {error}") from error
        for indices in chosen:
            read = [
                files.normalize(files.read_image(frames[i], channels, side), files.MEAN, files.STD) for i in indices
            ]
            pixels.append(torch.stack(read, 1))
            labels.append(classes.index(video.parts[-2]))
            who.append(subjects.index(video.parts[-3]))
    of = torch.tensor(labels), torch.tensor(who)
    found = by_subject(who, seed=seed)
    return {
        s: Clips(torch.stack([pixels[i] for i in rows]), of[0][rows], of[1][rows]) for s, rows in found.items()
    }, classes
