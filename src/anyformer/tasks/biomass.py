"""Above-ground biomass of every pixel of a satellite tile, learned from the few pixels that a lidar has seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.biomass import BANDS, MEAN, STD, Tiles, read_raster, read_tiles, tiles
from anyformer.data.images import normalize
from anyformer.data.pictures import Picture, beside, colour, enlarge, gray
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.data.splits import SPLITS
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device

UNIT = 100.0
"""Megagrams a hectare that a model's output of 1 stands for."""
COUNTS = {"train": 1024, "valid": 128, "test": 128}
RGB = [BANDS.index(band) for band in ("red", "green", "blue")]


class Biomass(Task):
    """Biomass of pixels. Loss: squared error over labelled pixels. Metric: RMSE there, in megagrams a hectare.

    Training tiles are mirrored along both axes and turned by half. Muszynski et al. 2024, arXiv:2406.19888, section 4.

    Args:
        path: a folder with `images/NAME.tif` and `biomass/NAME.tif`; see `data.biomass.read_tiles`. None: generated
            tiles with 2 % of labelled pixels.
        image_size: side of generated tiles, in pixels.
        samples: generated tiles to train on; 128 others each to choose by and to test.
        region: the eco-region that generated tiles show, for measuring what was learned in another one.
        labelled: share of labelled pixels of generated tiles.
        bands: names of a raster's bands.
        nodata: the number of pixels without a label in your rasters.
        seed: of the tiles, or of the dealing out.

    Raises:
        OptionError: rasters without `nodata`; what `data.biomass.tiles` refuses.
        DataError: what `read_tiles` raises.
    """

    name = "biomass"
    metric = "rmse"
    higher_is_better = False
    default_model = "biomass_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        image_size: int = 32,
        samples: int = COUNTS["train"],
        region: int = 0,
        labelled: float = 0.02,
        bands: Sequence[str] = BANDS,
        nodata: float | None = None,
        seed: int = 0,
    ):
        self.bands, self.normalization = tuple(bands), (MEAN, STD)
        self.parts: dict[str, Tiles]
        if path is None:
            if self.bands != BANDS or samples < 1:
                raise OptionError(f"generated tiles are one or more and have the bands {', '.join(BANDS)}.")
            options = {"region": region, "labelled": labelled}
            counts = {**COUNTS, "train": samples}
            self.parts = {
                split: tiles(n, image_size, 3 * seed + SPLITS.index(split), **options) for split, n in counts.items()
            }
        else:
            self.parts = read_tiles(Path(path), nodata, self.bands, seed)
            train = self.parts["train"][0]
            self.normalization = float(train.mean()), max(float(train.std()), 1e-6)
        self.shape = tuple(self.parts["train"][0].shape[1:])

    def model_options(self) -> dict[str, Any]:
        _, rows, columns = self.shape
        size = rows if rows == columns else (rows, columns)
        return {"num_classes": 1, "in_channels": len(self.bands), "image_size": size}

    def size(self, split: str) -> int:
        return len(self.parts[self.check_split(split)][0])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "images" `(b, bands, h, w)`, "biomass" `(b, h, w)` (0 where it is not known), "labelled" `(b, h, w)`."""
        images, biomass, known = (part[indices] for part in self.parts[self.check_split(split)])
        if train:
            seeds = sample_seeds(seed, indices)
            for axis in (-1, -2):
                turned = uniform(seeds, -axis) < 0.5
                images = torch.where(turned[:, None, None, None], images.flip(axis), images)
                biomass = torch.where(turned[:, None, None], biomass.flip(axis), biomass)
                known = torch.where(turned[:, None, None], known.flip(axis), known)
        return {"images": normalize(images, *self.normalization), "biomass": biomass * known, "labelled": known}

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise OptionError("numbers have no smoothed labels: set label_smoothing to 0.")
        return masked_mse(regressed(model, batch), batch["biomass"] / UNIT, batch["labelled"])

    def count(self, batch: Batch) -> int:
        return int(batch["labelled"].sum())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "rmse", "mae" and "bias" over labelled pixels in megagrams a hectare, "r2", and "loss"."""
        errors, truth = [], []
        with measuring(model) as device:
            for _, batch in self.batches(split, min(batch_size, 64), device):
                known = batch["labelled"]
                errors.append((UNIT * regressed(model, batch) - batch["biomass"])[known].cpu())
                truth.append(batch["biomass"][known].cpu())
        error, true = torch.cat(errors).double(), torch.cat(truth).double()
        if not len(error):
            raise DataError(f"no pixel of the {split} part is labelled: nothing can be measured.")
        mse = float(error.square().mean())
        spread = float((true - true.mean()).square().mean())
        return {
            "rmse": mse**0.5,
            "mae": float(error.abs().mean()),
            "bias": float(error.mean()),
            "r2": 1 - mse / max(spread, 1e-12),
            "loss": mse / UNIT**2,
        }

    def baseline(self, split: str = "valid") -> Baseline:
        _, train, seen = self.parts["train"]
        _, biomass, known = self.parts[self.check_split(split)]
        value = float((biomass[known] - train[seen].mean()).square().mean()) ** 0.5
        return Baseline("the mean of the labelled training pixels", value, 0.3 * value)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Biomass of rasters (paths) or tiles `(bands, h, w)` as they are measured: "biomass" rows, and "mean"."""
        answers = []
        with measuring(model) as device:
            for given in inputs:
                image = normalize(self.prepare(given), *self.normalization)[None].to(device)
                found = UNIT * regressed(model, {"images": image})[0].cpu()
                answers.append(
                    {
                        "input": str(given) if isinstance(given, str | Path) else None,
                        "biomass": found.tolist(),
                        "mean": float(found.mean()),
                    }
                )
        return answers

    def prepare(self, tile: Any) -> Tensor:
        """`(bands, h, w)`, as it is measured. Raises `DataError` for another number of bands."""
        tile = tile if isinstance(tile, Tensor) else read_raster(Path(tile))
        if tile.dim() != 3 or len(tile) != len(self.bands):
            raise DataError(
                f"a tile is (bands, rows, columns) with the {len(self.bands)} bands {', '.join(self.bands)}; given "
                f"{tuple(tile.shape)}."
            )
        return tile

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The tile's colours, and its mean biomass."""
        images, biomass, known = (part[:n] for part in self.parts[self.check_split(split)])
        shown = zip(images, biomass, known, strict=True)
        return [{"input": self.drawn(i), "truth": f"{float(b[k].mean()):.0f} Mg/ha"} for i, b, k in shown]

    def drawn(self, image: Tensor) -> np.ndarray:
        """Red, green and blue where the bands have them, twice as light; else the first band."""
        if self.bands != BANDS:
            return gray(image[0].numpy())
        return colour(2.5 * image[RGB].numpy())

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """The tile, biomass where it is known, and as the model has it; lighter is more."""
        images, biomass, known = (part[:n] for part in self.parts[self.check_split(split)])
        with measuring(model) as device:
            batch = to_device({"images": normalize(images, *self.normalization)}, device)
            found = UNIT * regressed(model, batch).cpu()
        factor, most, drawn = max(1, 160 // self.shape[-1]), float(biomass.max()), []
        for image, true, seen, guess in zip(images, biomass, known, found, strict=True):
            error = float((guess - true)[seen].square().mean() ** 0.5) if bool(seen.any()) else float("nan")
            panels = (self.drawn(image), gray((true * seen).numpy(), 0, most), gray(guess.numpy(), 0, most))
            caption = f"tile, known, estimated (RMSE {error:.0f} Mg/ha)"
            drawn.append(Picture(caption, beside([enlarge(panel, factor) for panel in panels])))
        return drawn

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "sizes": {split: self.size(split) for split in SPLITS},
            "bands": list(self.bands),
            "shape": list(self.shape),
            "labelled": {split: int(part[2].sum()) for split, part in self.parts.items()},
        }


def masked_mse(found: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"], labelled: Bool[Tensor, "b h w"]) -> Tensor:
    """The mean squared error over labelled pixels; 0 where there are none. Others give no gradient at all."""
    error = torch.where(labelled, found - truth, torch.zeros_like(found))
    return error.square().sum() / labelled.sum().clamp(min=1)


def regressed(model: nn.Module, batch: Batch) -> Tensor:
    """The model's number for every pixel, float32. Raises `FitError` where it does not give one."""
    images = batch["images"]
    found = model(images).float()
    if tuple(found.shape) != (len(images), 1, *images.shape[2:]):
        raise FitError(
            f"biomass takes a model that gives one number for each pixel, (1, {images.shape[2]}, {images.shape[3]}); "
            f"this one gives {tuple(found.shape[1:])}: take biomass_micro, or another with num_classes=1."
        )
    return found[:, 0]


TASKS = {"biomass": Biomass}
