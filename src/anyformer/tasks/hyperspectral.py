"""Classification of the pixels of a hyperspectral scene, each by the patch around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, OptionError
from anyformer.data.hyperspectral import Cube, components, materials, patches, read_cube, split_pixels, split_windows
from anyformer.data.pictures import PALETTE, Picture, beside, enlarge, gray
from anyformer.data.transforms import Augment
from anyformer.tasks.classification import ImageClassification
from anyformer.tasks.task import measuring


class Around:
    """Patches of a scene around these places, cut out when they are asked for."""

    def __init__(self, cube: Cube, side: int, places: Tensor):
        self.cube, self.side, self.places = cube, side, places
        self.labels = cube.labels[places[:, 0], places[:, 1]] - 1

    def read(self, indices: Tensor) -> Tensor:
        return patches(self.cube, self.side, self.places[indices])[0]


class Hyperspectral(ImageClassification):
    """A class for each pixel of a scene `(h, w, bands)`, from the patch around it. Metric: overall accuracy.

    Beside it `evaluate` gives "average_accuracy", the mean over classes, and "kappa", Cohen's. Zidi et al. 2025,
    arXiv:2506.17759. By default a generated scene of six materials with noise.

    Args:
        path: the cube, a .npy or .mat file; its label map beside it as NAME_gt, or by `labels`.
        labels: the label map.
        patch: side of a patch, odd.
        bands: principal components that stand for the bands (None: the bands as they are, each brought to mean 0 and
            deviation 1).
        per_class: training pixels of each class, where parts are pixels.
        split: "pixels" draws training pixels anywhere, "windows" deals out windows of the scene.
        window: their side.
        noise: of the generated scene.
        seed: of the drawing, and of the generated scene.

    Raises:
        DataError: a scene without a label map, a class with too few pixels.
        OptionError: an even patch, more components than bands.
    """

    name = "hyperspectral"
    default_model = "lola_specvit_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        labels: str | Path | None = None,
        patch: int = 9,
        bands: int | None = 8,
        per_class: int = 150,
        split: Literal["pixels", "windows"] = "pixels",
        window: int = 16,
        noise: float = 1.5,
        seed: int = 0,
    ):
        cube = (
            materials(noise=noise, seed=seed)
            if path is None
            else read_cube(Path(path), None if labels is None else Path(labels))
        )
        if split == "pixels":
            places = split_pixels(cube.labels, per_class, seed=seed)
        elif split == "windows":
            places = split_windows(cube.labels, window, seed=seed)
        else:
            raise OptionError(f"split is 'pixels' or 'windows'; given {split!r}.")
        if bands is None:
            flat = cube.pixels.flatten(0, 1)
            cube = Cube((cube.pixels - flat.mean(0)) / flat.std(0).clamp(min=1e-6), cube.labels)
        else:
            cube = components(cube, bands)
        self.cube = cube
        parts: dict[str, Any] = {part: Around(cube, patch, where) for part, where in places.items()}
        patches(cube, patch, places["train"][:1])
        classes = [str(k + 1) for k in range(cube.classes)]
        super().__init__(parts, classes, (cube.pixels.shape[-1], patch, patch), (0.0, 1.0), Augment())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """As `ImageClassification`'s, with "average_accuracy" and "kappa"."""
        found = super().evaluate(model, split, batch_size=batch_size)
        table = torch.tensor(found["confusion"]).double()
        total = table.sum()
        chance = float((table.sum(0) * table.sum(1)).sum() / total**2)
        kappa = (found["accuracy"] - chance) / (1 - chance) if chance < 1 else 0.0
        recalls = [line["recall"] for line in found["classes"].values()]
        return {**found, "average_accuracy": sum(recalls) / len(recalls), "kappa": kappa}

    def prepare(self, image: Any) -> Tensor:
        """A patch `(bands, side, side)`, normalized as the task's."""
        if not isinstance(image, Tensor):
            raise DataError(
                f"the task {self.name!r} takes patches as tensors {self.shape}; given {type(image).__name__}."
            )
        return super().prepare(image)

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The first component of each patch `(h, w, 3)` uint8, and the class of its centre."""
        part = self.parts[self.check_split(split)]
        found = part.read(torch.arange(min(n, self.size(split))))
        labels = part.labels[: len(found)].tolist()
        return [{"input": gray(p[0].numpy()), "truth": self.classes[k]} for p, k in zip(found, labels, strict=True)]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """The scene, its classes where this part has pixels, and what the model makes of them."""
        part = self.parts[self.check_split(split)]
        guesses = []
        with measuring(model) as device:
            for indices in torch.arange(self.size(split)).split(512):
                guesses.append(model(part.read(indices).to(device)).argmax(-1).cpu())
        truth, guessed = torch.zeros_like(self.cube.labels), torch.zeros_like(self.cube.labels)
        rows, columns = part.places.t()
        truth[rows, columns], guessed[rows, columns] = part.labels + 1, torch.cat(guesses) + 1
        maps = [PALETTE[(m % len(PALETTE)).numpy()] for m in (truth, guessed)]
        panels = beside([gray(self.cube.pixels[..., 0].numpy()), *maps])
        return [Picture("first component, classes, and what the model says", enlarge(panels, 2))][:n]


TASKS = {"hyperspectral": Hyperspectral}
