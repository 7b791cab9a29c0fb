"""Multi-band satellite tiles of which a few pixels are labelled: generated ones, and folders of rasters."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core.errors import DataError, OptionError, require
from anyformer.data.splits import SPLITS, check_splits

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
MEAN, STD = 0.25, 0.14
"""About those of the generated reflectances."""
MOST = 300.0
"""Largest biomass of a generated tile, in megagrams a hectare."""

BARE = np.array([0.14, 0.18, 0.24, 0.32, 0.42, 0.36])
FOREST = np.array([0.03, 0.06, 0.03, 0.46, 0.20, 0.09])
"""Reflectances of dry soil and of closed forest in the bands."""
WATER = np.array([-0.02, -0.03, -0.06, -0.10, -0.22, -0.22])
"""What moisture takes off."""

Tiles = tuple[Float[Tensor, "n bands s s"], Float[Tensor, "n s s"], Bool[Tensor, "n s s"]]
"""Reflectances, biomass, and where it is known."""


def tiles(count: int, size: int, seed: int, *, region: int = 0, labelled: float = 0.02) -> Tiles:
    """Tiles of forest, fields and moist ground in six bands; biomass in megagrams a hectare, known at a few footprints.

    Biomass is smooth; it darkens the visible bands and saturates, and makes the texture of crowns, while moisture and
    haze change the bands on their own. Footprints lie on two tracks across the tile, as a lidar's in orbit do. A
    region has soils, forests and shares of its own.

    Args:
        region: which eco-region, 0 or more.
        labelled: share of pixels with a footprint.

    Raises `OptionError` for sides below 16, and a share outside (0, 1].
    """
    if size < 16 or not 0 < labelled <= 1:
        raise OptionError(
            f"tiles have a side of 16 pixels or more and a share above 0 and up to 1 of labels; given size={size}, "
            f"labelled={labelled}."
        )
    ground = np.random.RandomState(7919 * region)  # its streams never change
    soil = BARE * ground.uniform(0.85, 1.15, len(BARE))
    forest = FOREST * ground.uniform(0.85, 1.15, len(BARE))
    dense = ground.uniform(0.8, 1.2)
    images = np.empty((count, len(BANDS), size, size), np.float32)
    biomass, known = np.empty((count, size, size), np.float32), np.zeros((count, size, size), bool)
    for i in range(count):
        random = np.random.RandomState((seed * 1_000_003 + region * 7_919 + i) % 2**32)
        share = np.clip(dense * (0.5 + 0.42 * field(random, size, 4)), 0, 1)
        wet = np.clip(0.3 + 0.3 * field(random, size, 3), 0, 1)
        cover = (1 - np.exp(-3 * share)) / (1 - np.exp(-3))
        crowns = share * field(random, size, size // 2)
        mixed = soil[:, None, None] * (1 - cover) + forest[:, None, None] * cover
        mixed = mixed + 0.5 * WATER[:, None, None] * wet * (1 - 0.5 * cover)
        mixed = mixed * (1 + 0.18 * crowns) * random.uniform(0.9, 1.1) + random.uniform(0, 0.04)
        images[i] = mixed + 0.02 * random.standard_normal(mixed.shape)
        biomass[i] = MOST * share**1.5
        known[i] = footprints(random, size, max(1, round(labelled * size * size)))
    return torch.from_numpy(images), torch.from_numpy(biomass), torch.from_numpy(known)


def field(random: np.random.RandomState, size: int, cells: int) -> np.ndarray:
    """A smooth random field `(size, size)` of mean 0 and deviation about 1, with so many cells along a side."""
    coarse = torch.from_numpy(random.standard_normal((1, 1, cells + 2, cells + 2)))
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[0, 0].numpy()
    return smooth / max(float(smooth.std()), 1e-6) * random.uniform(0.8, 1.2)


def footprints(random: np.random.RandomState, size: int, count: int) -> np.ndarray:
    """`(size, size)`, true at `count` places on two straight tracks (or anywhere, where tracks are full)."""
    places = np.zeros((size, size), bool)
    tracks = [(random.uniform(0, size), random.uniform(-1, 1)) for _ in range(2)]
    for _ in range(20 * count):
        if places.sum() == count:
            break
        start, slope = tracks[random.randint(2)]
        row = random.randint(size)
        column = int(start + slope * (row - size / 2))
        if 0 <= column < size:
            places[row, column] = True
    free = np.flatnonzero(~places.ravel())
    places.ravel()[random.permutation(free)[: count - int(places.sum())]] = True
    return places


def read_tiles(folder: Path, nodata: float | None, bands: Sequence[str], seed: int = 0) -> dict[str, Tiles]:
    """Rasters `images/NAME.tif` (bands, rows, columns) with `biomass/NAME.tif` (rows, columns); `.npy` works too.

    Seven tenths of the tiles are to train on, the others to choose by and to test.

    Args:
        nodata: the number in a biomass raster at pixels without a label (or NaN); it has to be named.
        bands: names of the images' bands.

    Raises:
        OptionError: no `nodata`.
        DataError: a folder or label that is missing, files of other shapes or numbers of bands, negative biomass.
    """
    if nodata is None:
        raise OptionError(
            "most pixels of a biomass raster have no label, and which number says so has to be named, or it would be "
            "learned as biomass: set nodata=, as in nodata=-9999 (or nodata=nan)."
        )
    names = sorted(p for p in (folder / "images").glob("*") if p.suffix.lower() in (".tif", ".tiff", ".npy"))
    if not names:
        raise DataError(
            f"{folder / 'images'} holds no rasters (.tif, .npy): give images/NAME.tif and biomass/NAME.tif."
        )
    images, biomass, known = [], [], []
    for path in names:
        image, label = read_raster(path), read_raster(folder / "biomass" / path.name)
        if image.dim() != 3 or len(image) != len(bands):
            raise DataError(
                f"{path} has the shape {tuple(image.shape)}; tiles are (bands, rows, columns) with the {len(bands)} "
                f"bands {', '.join(bands)}."
            )
        if label.shape != image.shape[1:] or (images and image.shape != images[0].shape):
            raise DataError(
                f"{path}: the image is {tuple(image.shape)}, its biomass {tuple(label.shape)}; rows and columns agree, "
                "and are the same in all files: cut the rasters into tiles."
            )
        there = torch.isfinite(label) & (label != nodata)
        if bool((label[there] < 0).any()):
            raise DataError(
                f"{folder / 'biomass' / path.name} holds {float(label[there].min()):g} beside nodata={nodata:g}; "
                "biomass is 0 or more."
            )
        images.append(image)
        biomass.append(label.masked_fill(~there, 0.0))
        known.append(there)
    order = np.random.RandomState(seed).permutation(len(names))
    held = max(1, round(0.15 * len(names)))
    rows = {"test": order[:held], "valid": order[held : 2 * held], "train": order[2 * held :]}
    check_splits(rows, folder)
    whole = [torch.stack(part) for part in (images, biomass, known)]
    return {split: tuple(part[np.sort(rows[split])] for part in whole) for split in SPLITS}  # type: ignore[misc]


def read_raster(path: Path) -> Tensor:
    """A raster's numbers, float32; bands first. Raises `DataError` naming a file that is missing or cannot be read."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: every image has its biomass under the same name.")
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path)
        else:
            values = require("tifffile", "vision").imread(path)
            if values.ndim == 3 and values.shape[-1] < min(values.shape[:2]):
                values = values.transpose(2, 0, 1)
    except (ValueError, OSError, TypeError, struct.error) as error:
        raise DataError(
            f"the raster {path} cannot be read ({str(error).splitlines()[0]}): repair or remove it."
        ) from error
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
