"""Pretraining on images without their labels: restore what was hidden (SimMIM) or corrupted (GMML)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError
from anyformer.data.pictures import Picture, beside, colour, enlarge
from anyformer.data.seeds import sample_seeds
from anyformer.methods.pretraining.gmml import Fill, check_blocks, corrupt
from anyformer.methods.pretraining.masking import check_ratio, masked_l1, pixels, random_units, unit_grid
from anyformer.tasks import create_task
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device


class Restoring(Task):
    """Images of another task, spoiled and to be restored. Loss and metric: mean L1 over spoiled pixels.

    The unit is the deviation of the task's normalized pixels. Afterwards `methods.pretraining.masking.fine_tune` makes
    a classifier of the encoder.

    Args:
        data: the task whose images are used, such as "digits" or "images:photos/"; labels are not looked at.
        ratio: share of each image that is spoiled.
        repeats: how often an epoch of training sees each image, spoiled anew every time.
    """

    metric = "masked_l1"
    higher_is_better = False
    part: str

    def __init__(self, data: str, ratio: float, repeats: int, options: dict[str, Any] | None = None):
        check_ratio(ratio)
        if repeats < 1:
            raise OptionError(f"repeats of the images in an epoch are 1 or more; given {repeats}.")
        self.data: Any = create_task(data, **(options or {}))
        if not hasattr(self.data, "shape"):
            raise DataError(f"the task {data!r} has no images to pretrain on: name one that has, such as digits.")
        self.ratio, self.repeats, self.shape = ratio, repeats, self.data.shape
        self.ahead = self.data.ahead

    def model_options(self) -> dict[str, Any]:
        return {"in_channels": self.shape[0], "image_size": self.shape[1]}

    def size(self, split: str) -> int:
        return self.data.size(split) * (self.repeats if split == "train" else 1)

    @abstractmethod
    def spoil(self, images: Tensor, seeds: Tensor) -> Batch:
        """What a model gets ("given", and what else it needs), and which pixels `(b, 1, h, w)` count ("spoiled")."""

    @abstractmethod
    def restore(self, model: Any, batch: Batch) -> Tensor:
        """The model's images."""

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        images = self.data.sample(split, indices % self.data.size(split), seed=seed, train=train)["images"]
        return {"images": images, **self.spoil(images, sample_seeds(seed, indices))}

    def check_model(self, model: nn.Module) -> Any:
        """The model, out of what wraps it. Raises `FitError` for one that restores nothing of this kind."""
        inner = getattr(model, "module", model)
        if getattr(inner, "name", None) != self.part:
            raise FitError(
                f"the task {self.name!r} trains a model {self.part!r} around an encoder, such as {self.default_model}; "
                f'take create_model("{self.default_model}", encoder=...) with your encoder.'
            )
        return inner

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        self.check_model(model)
        return masked_l1(self.restore(model, batch).float(), batch["images"], batch["spoiled"])

    def count(self, batch: Batch) -> int:
        return int(batch["spoiled"].sum())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """`masked_l1`, and the same as "loss"; every image is spoiled as always."""
        total, count = 0.0, 0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                here = self.count(batch)
                total += float(self.loss(model, batch)) * here
                count += here
        return {"masked_l1": total / count, "loss": total / count}

    def baseline(self, split: str = "valid") -> Baseline:
        images = self.data.sample("train", torch.arange(self.data.size("train")))["images"]
        batch = self.sample(split, torch.arange(self.size(split)))
        mean = images.mean(0).expand_as(batch["images"])
        value = float(masked_l1(mean, batch["images"], batch["spoiled"]))
        return Baseline("the mean training image", value, 0.3 * value)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Image files or tensors `(c, h, w)`, spoiled and restored: "given" and "restored" in pixels, "masked_l1"."""
        if len(inputs) == 0:
            return []
        images = torch.stack([self.data.prepare(x) for x in inputs])
        batch = {"images": images, **self.spoil(images, sample_seeds(0, torch.arange(len(images))))}
        with measuring(model) as device:
            self.check_model(model)
            restored = self.restore(model, to_device(batch, device)).float().cpu()
        return [
            {
                "input": str(x) if not isinstance(x, Tensor) else None,
                "restored": self.shown(restored[i]),
                "masked_l1": float(masked_l1(restored[i : i + 1], images[i : i + 1], batch["spoiled"][i : i + 1])),
            }
            for i, x in enumerate(inputs)
        ]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Spoiled pixels and the whole image's, `(h, w, 3)` uint8."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        visible = self.visible(batch)
        return [{"input": self.shown(g), "truth": self.shown(i)} for g, i in zip(visible, batch["images"], strict=True)]

    def visible(self, batch: Batch) -> Tensor:
        """What a person sees of the spoiled images."""
        return batch["given"]

    def shown(self, image: Tensor) -> np.ndarray:
        """A normalized image as pixels."""
        mean, std = self.data.normalization
        return colour((image * std + mean).numpy())

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Spoiled, restored (visible pixels as they are) and whole images, side by side."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        with measuring(model) as device:
            restored = self.restore(model, to_device(batch, device)).float().cpu()
        restored = torch.where(batch["spoiled"], restored, batch["images"])
        factor = max(1, 128 // self.shape[1])
        rows = zip(self.visible(batch), restored, batch["images"], strict=True)
        return [
            Picture("spoiled, restored, whole", beside([enlarge(self.shown(x), factor) for x in row])) for row in rows
        ]

    def facts(self) -> dict[str, Any]:
        return {"task": self.name, "ratio": self.ratio, "images": self.data.facts()}


class SimMIMPretraining(Restoring):
    """Predict the pixels of hidden squares: SimMIM, arXiv:2111.09886.

    Args:
        data, ratio, repeats: as `Restoring`'s; 0.6 in the paper.
        unit: side of a hidden square in pixels, a multiple of the encoder's patch (None: a quarter of the image; the
            paper's 32 of 192 pixels is a sixth).
        options: of the task `data`.
    """

    name = "pretraining"
    part = "simmim"
    default_model = "simmim_micro"

    def __init__(
        self,
        data: str = "digits",
        ratio: float = 0.6,
        unit: int | None = None,
        repeats: int = 8,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(data, ratio, repeats, options)
        self.unit = max(1, self.shape[1] // 4) if unit is None else unit
        self.units = unit_grid(self.shape[1:], self.unit, 1)

    def spoil(self, images: Tensor, seeds: Tensor) -> Batch:
        mask = random_units(seeds, self.units, self.ratio)
        return {"given": images, "mask": mask, "spoiled": pixels(mask, images.shape[2:])}

    def check_model(self, model: nn.Module) -> Any:
        inner = super().check_model(model)
        unit_grid(self.shape[1:], self.unit, inner.patch)
        return inner

    def restore(self, model: Any, batch: Batch) -> Tensor:
        grid = self.check_model(model).encoder.embed.grid(batch["given"].shape[2:])
        return model(batch["given"], pixels(batch["mask"], grid)[:, 0])

    def visible(self, batch: Batch) -> Tensor:
        return batch["images"].masked_fill(batch["spoiled"], 0.0)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "unit": self.unit}


class GMMLPretraining(Restoring):
    """Restore images with corrupted groups of patches: GMML, arXiv:2205.14986.

    Args:
        data, ratio, repeats: as `Restoring`'s; the share is drawn up to `ratio`, 0.75 in the authors' code.
        align: pixels that blocks are aligned to, best the encoder's patch (None: a quarter of the image).
        largest: side of the largest block as a share of the image's.
        fills: what blocks become: "noise", "zeros", "copy"; one is drawn for each image.
        options: of the task `data`.
    """

    name = "pretraining_gmml"
    part = "gmml"
    default_model = "gmml_micro"

    def __init__(
        self,
        data: str = "digits",
        ratio: float = 0.7,
        align: int | None = None,
        largest: float = 0.6,
        fills: Sequence[Fill] = ("noise",),
        repeats: int = 8,
        options: dict[str, Any] | None = None,
    ):
        super().__init__(data, ratio, repeats, options)
        self.align = max(1, self.shape[1] // 4) if align is None else align
        self.largest, self.fills = largest, tuple(fills)
        self.ahead = max(self.ahead, 2)  # blocks are drawn one by one
        check_blocks((self.shape[1], self.shape[2]), self.align, largest)

    def spoil(self, images: Tensor, seeds: Tensor) -> Batch:
        made = [
            corrupt(
                image,
                np.random.RandomState(int(seed) % 2**32),
                ratio=self.ratio,
                align=self.align,
                fills=self.fills,
                largest=self.largest,
            )
            for image, seed in zip(images, seeds, strict=True)
        ]
        return {"given": torch.stack([g for g, _ in made]), "spoiled": torch.stack([m for _, m in made])[:, None]}

    def restore(self, model: Any, batch: Batch) -> Tensor:
        return model(batch["given"])

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "align": self.align, "largest": self.largest, "fills": list(self.fills)}


TASKS = {"pretraining": SimMIMPretraining, "pretraining_gmml": GMMLPretraining}
