"""Clouds of points with a class for each: generated street scenes, and KITTI's, SemanticKITTI's and numpy's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anyformer.core.errors import DataError
from anyformer.data.splits import FOLDERS, SPLITS, check_splits, stratified

CLASSES = ("ground", "building", "car", "pole")
"""Of the generated scenes."""

SIDE = 32.0
"""Of the generated scenes, in metres; the sensor stands in the middle."""

VOID = -1
"""The label of points of no class."""

SUFFIXES = (".bin", ".npy")
LABELS = (".label", ".npy")
HOLDERS = {"clouds": "labels", "velodyne": "labels"}
"""Folders of clouds, and of their labels beside them."""


@dataclass(frozen=True)
class Cloud:
    """Points `(n, 3 + f)` float32, x, y, z in metres and other values, and class numbers `(n,)` int64, or `VOID`."""

    points: NDArray[np.float32]
    labels: NDArray[np.int64]


# -- generated ------------------------------------------------------------------------------------------------


def street(points: int, seed: int) -> Cloud:
    """A scene of `points` points: sloping ground, walls of buildings, cars and poles, denser near the sensor.

    Surfaces are drawn at random and points on them, with 3 cm of noise; the fourth value is how much a surface sends
    back, which tells surfaces apart and not classes. The ground rises by up to 3 m across the scene, so that height
    alone says little.
    """
    random = np.random.RandomState(seed % 2**32)  # its streams never change
    slope, phase = random.uniform(-0.1, 0.1, 2), random.uniform(0, 2 * np.pi, 2)
    things = [
        *(("building", _box(random, (8, 14), (0.3, 0.6), (3, 6))) for _ in range(random.randint(1, 4))),
        *(("car", _box(random, (3.5, 5), (1.6, 2), (1.3, 1.8))) for _ in range(random.randint(2, 6))),
        *(("pole", _box(random, (0.15, 0.4), (0.15, 0.4), (2.5, 5))) for _ in range(random.randint(3, 8))),
    ]
    share = np.array([0.45, *(SHARES[kind] for kind, _ in things)])
    drawn = random.multinomial(4 * points, share / share.sum())
    where = [np.column_stack([random.uniform(-SIDE / 2, SIDE / 2, (drawn[0], 2)), np.zeros(drawn[0])])]
    where += [_on(random, box, count) for (_, box), count in zip(things, drawn[1:], strict=True)]
    kinds = np.repeat([0, *(CLASSES.index(kind) for kind, _ in things)], drawn)
    tone = np.repeat(random.normal(0, 1, len(drawn)), drawn)
    found = np.concatenate(where)
    inside = np.abs(found[:, :2]).max(1) < SIDE / 2 - 0.2
    seen = 1 / (4 + np.linalg.norm(found[:, :2], axis=1)) * inside
    chosen = random.choice(len(found), points, replace=False, p=seen / seen.sum())
    found, kinds, tone = found[chosen], kinds[chosen], tone[chosen]
    flat = found[:, :2]
    found[:, 2] += 2.5 + flat @ slope + 0.4 * np.sin(flat / 4 + phase).sum(1)
    found += random.normal(0, 0.03, found.shape)
    values = np.column_stack([found, 0.2 * tone + random.normal(0, 0.1, points)])
    return Cloud(values.astype(np.float32), kinds.astype(np.int64))


SHARES = {"building": 0.12, "car": 0.06, "pole": 0.02}
"""Of a scene's points, how many fall on one thing of a class, beside 0.45 on the ground."""

Box = tuple[NDArray[np.float64], float, tuple[float, float, float]]


def _box(random: np.random.RandomState, *sides: tuple[float, float]) -> Box:
    """Centre on the ground, turn in radians, and length, width and height of a box."""
    length, width, height = (float(random.uniform(*side)) for side in sides)
    return random.uniform(-SIDE / 2 + 1, SIDE / 2 - 1, 2), float(random.uniform(0, np.pi)), (length, width, height)


def _on(random: np.random.RandomState, box: Box, count: int) -> NDArray[np.float64]:
    """Points `(count, 3)` on the four walls and the roof of a box, evenly by area."""
    centre, turn, (length, width, height) = box
    areas = np.array([length * height, length * height, width * height, width * height, length * width])
    face = random.choice(5, count, p=areas / areas.sum())
    own = random.uniform(-0.5, 0.5, (count, 3)) * (length, width, height)
    own[:, 2] += height / 2
    faces = ((1, -width / 2), (1, width / 2), (0, -length / 2), (0, length / 2), (2, height))
    for i, (axis, place) in enumerate(faces):
        own[face == i, axis] = place
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    own[:, :2] = own[:, :2] @ turned + centre
    return own


# -- files ----------------------------------------------------------------------------------------------------


def read_points(path: Path, values: int = 4) -> NDArray[np.float32]:
    """Points `(n, values or more)` of a file: `.bin`, KITTI's float32 of x, y, z and intensity, or a `.npy` matrix.

    Raises `DataError` naming the file.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: clouds are .bin files (KITTI) or .npy files of numpy.")
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    if path.suffix == ".bin":
        size = path.stat().st_size
        if not size or size % (4 * values):
            raise DataError(
                f"{path} has {size:,} bytes, which is no whole number of points of {values} float32: it is cut short, "
                "or its points have more or fewer values."
            )
        points = np.fromfile(path, dtype="<f4").reshape(-1, values)
    else:
        points = _matrix(path)
        if points.ndim != 2 or points.shape[1] < 3 or not len(points) or points.dtype.kind not in "fiu":
            raise DataError(
                f"{path} holds {points.dtype} of shape {points.shape}; a cloud is a matrix of numbers, a row for each "
                "point: x, y, z, and more."
            )
        points = points.astype(np.float32)
    wrong = int((~np.isfinite(points)).any(1).sum())
    if wrong:
        raise DataError(f"{path}: {wrong} of {len(points)} points hold values that are no finite numbers.")
    return points


def read_labels(path: Path, count: int) -> NDArray[np.int64]:
    """A whole number for each of `count` points: `.label`, SemanticKITTI's uint32 whose lower half is the class, or
    a `.npy` row. Raises `DataError` naming the file.
    """
    if path.suffix == ".label":
        if path.stat().st_size % 4:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, which is no whole number of uint32.")
        labels = np.fromfile(path, dtype="<u4") & 0xFFFF
    else:
        labels = _matrix(path)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DataError(
                f"{path} holds {labels.dtype} of shape {labels.shape}; labels are one whole number for each point."
            )
    if len(labels) != count:
        raise DataError(f"{path} has {len(labels):,} labels, and its cloud {count:,} points.")
    return labels.astype(np.int64)


def read_clouds(root: Path, values: int = 4, seed: int = 0) -> tuple[dict[str, list[Cloud]], tuple[str, ...]]:
    """Clouds with labels of a folder, by part, and the names of classes: the numbers that occur in labels, in order.

    The folder holds `clouds/NAME.bin` (or `velodyne/`; or .npy) and `labels/NAME.label` (or .npy), or folders train,
    valid and test that do. Otherwise clouds are dealt out by `seed`. The number 0, SemanticKITTI's "unlabeled", stands
    for no class where there are .label files.

    Raises `DataError` naming the file or folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder: give one with clouds/NAME.bin and labels/NAME.label.")
    named = {FOLDERS[p.name]: p for p in sorted(root.iterdir()) if p.is_dir() and p.name in FOLDERS}
    pairs = {split: _pairs(folder) for split, folder in named.items()} if named else {"": _pairs(root)}
    read = {split: [_labelled(*pair, values) for pair in part] for split, part in pairs.items()}
    if not named:
        dealt = stratified([0] * len(read[""]), seed=seed)
        read = {split: [read[""][i] for i in dealt[split]] for split in SPLITS}
    check_splits(read, root)
    void = {0} if any(label.suffix == ".label" for part in pairs.values() for _, label in part) else set()
    numbers = sorted(set().union(*(np.unique(c.labels).tolist() for part in read.values() for c in part)) - void)
    if len(numbers) < 2:
        raise DataError(f"{root}: labels take two or more classes; found {', '.join(map(str, numbers)) or 'none'}.")
    place = np.full(max(numbers) + 1, VOID)
    place[numbers] = np.arange(len(numbers))
    parts = {split: [Cloud(c.points, place[c.labels]) for c in part] for split, part in read.items()}
    widths = {c.points.shape[1] for part in parts.values() for c in part}
    if len(widths) > 1:
        raise DataError(f"{root}: clouds have {', '.join(map(str, sorted(widths)))} values a point; all need as many.")
    return parts, tuple(map(str, numbers))


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Files of clouds and of their labels."""
    holder = next((folder / name for name in HOLDERS if (folder / name).is_dir()), None)
    if holder is None:
        raise DataError(f"{folder} has no folder clouds (or velodyne), with labels beside it.")
    found = []
    for path in sorted(p for p in holder.iterdir() if p.suffix in SUFFIXES):
        beside = [folder / HOLDERS[holder.name] / (path.stem + suffix) for suffix in LABELS]
        label = next((p for p in beside if p.is_file()), None)
        if label is None:
            raise DataError(f"{path} has no labels: {beside[0]} does not exist.")
        found.append((path, label))
    if not found:
        raise DataError(f"{holder} holds no cloud: .bin files (KITTI) or .npy files of numpy.")
    return found


def _labelled(path: Path, label: Path, values: int) -> Cloud:
    points = read_points(path, values)
    labels = read_labels(label, len(points))
    if labels.min() < 0:
        raise DataError(f"{label} holds the number {labels.min()}; classes are 0 and above.")
    return Cloud(points, labels)


def _matrix(path: Path) -> NDArray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no .npy file that numpy can read: {error}") from error


def cropped(cloud: Cloud, extent: Sequence[float]) -> Cloud:
    """The points whose x and y lie within `extent`, (x, y, z) of the lower and the upper corner."""
    flat = cloud.points[:, :2]
    low, high = np.asarray(extent, np.float32).reshape(2, -1)[:, :2]
    inside = ((flat >= low) & (flat < high)).all(1)
    return Cloud(cloud.points[inside], cloud.labels[inside])
