"""Hyperspectral scenes: cubes with a label map, patches around pixels, parts that share none, and generated scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, OptionError, require
from anyformer.data.splits import SPLITS


@dataclass(frozen=True)
class Cube:
    """A scene: `pixels` `(h, w, bands)` float32 and `labels` `(h, w)` int64, 0 where a pixel has none."""

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.labels.shape != self.pixels.shape[:2]:
            raise DataError(
                f"a label map has one number for each pixel of its cube, {tuple(self.pixels.shape[:2])}; given "
                f"{tuple(self.labels.shape)}."
            )

    @property
    def classes(self) -> int:
        """Labels that occur, 0 aside; they are 1 to this number."""
        return int(self.labels.max())


def patches(cube: Cube, side: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """Patches `(n, bands, side, side)` around pixels, mirrored at the border, and the class of each centre from 0.

    Args:
        cube: the scene.
        side: of a patch, in pixels; odd, so that it has a centre.
        places: `(n, 2)` rows and columns of the centres.

    Raises:
        OptionError: an even side, or one that mirroring cannot fill.
        DataError: a centre without a label.
    """
    if side < 1 or side % 2 == 0:
        raise OptionError(f"a patch has a pixel in its middle, so its side is odd; given {side}: take {side + 1}.")
    half = side // 2
    if half >= min(cube.labels.shape):
        raise OptionError(f"a patch of {side} is larger than twice the scene of {tuple(cube.labels.shape)} pixels.")
    labels = cube.labels[places[:, 0], places[:, 1]]
    if len(labels) and int(labels.min()) < 1:
        raise DataError("a patch stands around a pixel that has a label; the label map has 0 at some of these places.")
    mirrored = nn.functional.pad(cube.pixels.movedim(-1, 0)[None], (half,) * 4, mode="reflect")[0]
    steps = torch.arange(side)
    rows, columns = (places[:, axis, None] + steps for axis in (0, 1))
    found = mirrored[:, rows[:, :, None], columns[:, None, :]]  # (bands, n, side, side)
    return found.transpose(0, 1).contiguous(), labels - 1


def split_pixels(labels: Tensor, per_class: int, *, valid: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """Places `(n, 2)` of each part, no pixel in two: so many labelled pixels of each class to train on.

    Patches of parts overlap all the same, as in most published results; `split_windows` keeps the parts apart.

    Args:
        labels: the label map.
        per_class: training pixels of each class.
        valid: fraction of the others to choose by.
        seed: of the drawing.

    Raises:
        DataError: a class with too few pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {split: [] for split in SPLITS}
    for kind in range(1, int(labels.max()) + 1):
        places = (labels == kind).nonzero()
        if len(places) < per_class + 2:
            raise DataError(
                f"class {kind} has {len(places)} labelled pixels; {per_class} to train on and one for each other part "
                f"take {per_class + 2}: take fewer per class."
            )
        places = places[torch.randperm(len(places), generator=generator)]
        chosen = max(1, round(valid * (len(places) - per_class)))
        found["train"].append(places[:per_class])
        found["valid"].append(places[per_class : per_class + chosen])
        found["test"].append(places[per_class + chosen :])
    return {split: torch.cat(parts) for split, parts in found.items()}


def split_windows(
    labels: Tensor, window: int, *, margin: int = 0, valid: float = 0.2, test: float = 0.4, seed: int = 0
) -> dict[str, Tensor]:
    """Places `(n, 2)` of each part, dealt out by windows of the scene, so that parts lie in different places.

    Args:
        labels: the label map.
        window: side of a window, in pixels.
        margin: pixels of a window's border that are left out; half a patch's side keeps patches apart as well.
        valid, test: fractions of the windows.
        seed: the order in which windows are dealt out.

    Raises:
        OptionError: a margin that leaves nothing of a window.
        DataError: fewer than three windows.
    """
    if window < 1 or 2 * margin >= window:
        raise OptionError(f"a margin leaves a pixel or more of a window; given window={window} and margin={margin}.")
    rows, columns = (torch.arange(side) for side in labels.shape)
    across = -(-labels.shape[1] // window)
    of = (rows // window)[:, None] * across + columns // window
    windows = int(of.max()) + 1
    if windows < 3:
        raise DataError(
            f"three parts take three windows or more; this scene has {windows} of {window} pixels: take less."
        )
    order = torch.randperm(windows, generator=torch.Generator().manual_seed(seed))
    tested = max(1, round(windows * test))
    chosen = max(1, min(round(windows * valid), windows - tested - 1))
    held = {"test": order[:tested], "valid": order[tested : tested + chosen], "train": order[tested + chosen :]}
    inside = [(s % window >= margin) & (s % window < window - margin) for s in (rows, columns)]
    kept = (labels > 0) & inside[0][:, None] & inside[1]
    return {split: (kept & torch.isin(of, held[split])).nonzero() for split in SPLITS}


def components(cube: Cube, count: int) -> Cube:
    """The first principal components of a cube's bands, each with mean 0 and deviation 1 over the scene.

    Raises `OptionError` for more components than bands.
    """
    bands = cube.pixels.shape[-1]
    if not 1 <= count <= bands:
        raise OptionError(f"a cube of {bands} bands has 1 to {bands} components; given {count}.")
    flat = cube.pixels.flatten(0, 1).double()
    flat = flat - flat.mean(0)
    values, vectors = torch.linalg.eigh(flat.t() @ flat / max(len(flat) - 1, 1))
    chosen = vectors[:, -count:].flip(1)
    scores = flat @ chosen / values[-count:].flip(0).clamp(min=1e-12).sqrt()
    return Cube(scores.float().view(*cube.labels.shape, count), cube.labels)


def materials(*, side: int = 64, classes: int = 6, bands: int = 40, noise: float = 1.0, seed: int = 0) -> Cube:
    """A generated scene of fields, each of one material with its spectrum, and noise in every band of every pixel.

    Spectra are smooth (sums of three Gaussian bumps), with a common shape that carries most of the light; fields are
    the places nearest to random points. `noise` is its deviation over that of a material's own part of the spectrum.

    Args:
        side: of the scene, in pixels.
        classes: materials.
        bands: of the sensor.
        noise: how loud it is.
        seed: of all that is random.
    """
    generator = torch.Generator().manual_seed(seed)
    wave = torch.linspace(0, 1, bands)

    def spectra(n: int) -> Tensor:
        centres = torch.rand(n, 3, 1, generator=generator)
        widths = 0.05 + 0.15 * torch.rand(n, 3, 1, generator=generator)
        heights = torch.randn(n, 3, 1, generator=generator)
        return (heights * torch.exp(-(((wave - centres) / widths) ** 2) / 2)).sum(1)

    own = spectra(classes)
    own = (own - own.mean(0)) / own.std()
    common = 3 * spectra(1)
    points = torch.rand(5 * classes, 2, generator=generator) * side
    kinds = torch.arange(5 * classes) % classes
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).float()
    labels = kinds[(grid[:, :, None] - points).square().sum(-1).argmin(-1)]
    light = 1 + 0.1 * torch.randn(side, side, 1, generator=generator)
    pixels = light * (common + own[labels]) + noise * torch.randn(side, side, bands, generator=generator)
    return Cube(pixels, labels + 1)


def read_cube(path: Path, labels: Path | None = None) -> Cube:
    """A scene from two files: the cube `(h, w, bands)` and its label map `(h, w)`, as .npy or MATLAB's .mat.

    Args:
        path: the cube.
        labels: the label map; unless given, the file of the cube's name with `_gt` before its ending.

    Raises:
        DataError: a file that is missing or of another kind, has no array of these axes, or no label map.
    """
    labels = path.with_name(f"{path.stem}_gt{path.suffix}") if labels is None else labels
    if not labels.exists():
        raise DataError(
            f"{path} has no label map: there is no {labels}; give labels=, the file with a class for each pixel."
        )
    pixels, known = _array(path, 3), _array(labels, 2)
    if not np.isfinite(pixels).all():
        raise DataError(f"{path} holds values that are no numbers; replace or mask them first.")
    return Cube(torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(known.astype(np.int64)))


def _array(path: Path, rank: int) -> np.ndarray:
    """The one array of so many axes in a file."""
    if path.suffix not in (".npy", ".mat"):
        raise DataError(f"{path} ends with {path.suffix or 'nothing'}; cubes and label maps are .npy or .mat files.")
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    found = {path.name: np.load(path)} if path.suffix == ".npy" else require("scipy.io", "data").loadmat(str(path))
    arrays = [a for a in found.values() if isinstance(a, np.ndarray) and a.ndim == rank]
    if len(arrays) != 1:
        raise DataError(f"{path} holds {len(arrays)} arrays of {rank} axes; one is needed.")
    return arrays[0]
