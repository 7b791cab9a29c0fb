"""One class for each point of a cloud: generated street scenes, or your LiDAR scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, OptionError
from anyformer.data.pictures import PALETTE, Picture, beside
from anyformer.data.pointclouds import CLASSES, SIDE, VOID, Cloud, cropped, read_clouds, read_points, street
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.data.splits import SPLITS
from anyformer.tasks.metrics import counts, described, means
from anyformer.tasks.task import IGNORE, Baseline, Batch, Task, measuring, to_device

MIRROR, TURN = 1, 2
STEP = 0.5
"""Metres of height that the baseline tells apart."""


class PointClouds(Task):
    """A class for every point. Loss: cross-entropy over points. Metric: mean IoU over all points of a split.

    Points of no class count nowhere. In training a cloud is mirrored, and turned by a quarter, half or three quarters
    about the vertical where its extent is a square around the origin.

    Args:
        path: a folder of clouds and labels; see `data.pointclouds.read_clouds`. None: generated street scenes, 1,024 to
            train on, 192 each to choose by and to test.
        extent: half the side of the square around the sensor that is looked at, in metres; points outside are left out.
        cell: side of a pillar, in metres.
        points: most points of a cloud; a larger one is thinned out evenly, always the same way. `predict` takes all.
        values: of a point in .bin files.
        classes: names, in the order of the numbers in labels; by default the numbers.
        seed: of the dealing out, or of the scenes.

    Raises:
        DataError: what `read_clouds` raises; a cloud without a point in the extent.
        OptionError: sizes that are none; classes for the generated scenes.
    """

    name = "pointclouds"
    metric = "miou"
    higher_is_better = True
    default_model = "flatformer_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        extent: float | None = None,
        cell: float | None = None,
        points: int | None = None,
        values: int = 4,
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ):
        generated = path is None
        half = (SIDE / 2 if generated else 51.2) if extent is None else float(extent)
        self.cell = (1.0 if generated else 0.4) if cell is None else float(cell)
        self.points = (384 if generated else 16384) if points is None else points
        if not half > 0 or not 0 < self.cell <= half or self.points < 1 or values < 3:
            raise OptionError(
                f"extent, cell and points are above 0, cell at most extent, values 3 or more; given extent={half:g}, "
                f"cell={self.cell:g}, points={self.points}, values={values}."
            )
        if generated:
            if classes is not None:
                raise OptionError("the generated scenes have classes of their own: give path= for others.")
            parts = {
                split: [street(self.points, (3 * seed + k) * 100_000 + i) for i in range(size)]
                for k, (split, size) in enumerate(zip(SPLITS, (1024, 192, 192), strict=True))
            }
            names: Sequence[str] = CLASSES
        else:
            parts, names = read_clouds(Path(str(path)), values, seed)
            if classes is not None and len(classes) != len(names):
                raise OptionError(f"labels hold {len(names)} classes ({', '.join(names)}); given {len(classes)} names.")
        self.classes, self.source = tuple(names if classes is None else classes), str(path or f"generated, seed {seed}")
        heights = np.concatenate([c.points[:, 2] for c in parts["train"]])
        low, high = float(heights.min()), float(heights.max())
        self.extent = (-half, -half, low, half, half, max(high, low + 1e-3))
        self.held = {split: self.packed(part) for split, part in parts.items()}
        self.margin = 0.2 if generated else 0.0

    def packed(self, part: Sequence[Cloud]) -> dict[str, Tensor]:
        """Clouds of one length, as `sample` gives them: cropped, thinned out, and filled up at their ends."""
        found = []
        for i, cloud in enumerate(part):
            inside = cropped(cloud, self.extent)
            if not len(inside.points):
                raise DataError(
                    f"{self.source}: cloud {i} of a part has no point within {self.extent[3]:g} m of the sensor along "
                    "x and y: give a larger extent=."
                )
            if len(inside.points) > self.points:
                rows = np.random.RandomState(0).permutation(len(inside.points))[: self.points]
                inside = Cloud(inside.points[np.sort(rows)], inside.labels[np.sort(rows)])
            found.append(inside)
        most = max(len(c.points) for c in found)
        points = torch.zeros(len(found), most, found[0].points.shape[1])
        labels, valid = torch.full((len(found), most), IGNORE), torch.zeros(len(found), most, dtype=torch.bool)
        for row, cloud in enumerate(found):
            n = len(cloud.points)
            points[row, :n], valid[row, :n] = torch.from_numpy(cloud.points), True
            labels[row, :n] = torch.from_numpy(np.where(cloud.labels == VOID, IGNORE, cloud.labels))
        return {"points": points, "valid": valid, "labels": labels}

    def model_options(self) -> dict[str, Any]:
        return {
            "num_classes": len(self.classes),
            "in_channels": self.held["train"]["points"].shape[-1],
            "extent": self.extent,
            "cell": self.cell,
        }

    def size(self, split: str) -> int:
        return len(self.held[self.check_split(split)]["points"])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "points" `(b, n, values)`, "valid" `(b, n)`, and "labels" `(b, n)`, `IGNORE` where there is none."""
        batch = {name: tensor[indices] for name, tensor in self.held[self.check_split(split)].items()}
        if train:
            seeds = sample_seeds(seed, indices)
            side = torch.where(uniform(seeds, MIRROR) < 0.5, -1.0, 1.0).float()[:, None]
            quarter = (uniform(seeds, TURN) * 4).long()[:, None]
            cos, sin = (torch.tensor(t)[quarter] for t in ((1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 0.0, -1.0)))
            points = batch["points"].clone()
            x, y = points[..., 0] * side, points[..., 1]
            # The extent holds its lower border and not its upper one.
            most = float(np.nextafter(np.float32(self.extent[3]), np.float32(0)))
            points[..., 0], points[..., 1] = (v.clamp(-most, most) for v in (cos * x - sin * y, sin * x + cos * y))
            batch["points"] = points
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scores `(b, n, classes)`, float32. Raises `OptionError` where they are not."""
        points = batch["points"]
        scores = model(points, batch["valid"]).float()
        if tuple(scores.shape) != (*points.shape[:2], len(self.classes)):
            raise OptionError(
                f"the task {self.name!r} takes a model that gives each point a score for every class, "
                f"{(*points.shape[1:2], len(self.classes))}; this one gives {tuple(scores.shape[1:])}: take "
                f"{self.default_model}, or another of 'anyformer models --room geometry'."
            )
        return scores

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        scores = self.outputs(model, batch).transpose(1, 2)
        total = F.cross_entropy(
            scores, batch["labels"], ignore_index=IGNORE, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / max(self.count(batch), 1)

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != IGNORE).sum())

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "miou", "dice", "accuracy", "loss" in nats a point, "classes" (samples, recall, f1, iou), "confusion"."""
        number = len(self.classes)
        table, loss = torch.zeros(number, number, dtype=torch.int64), 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, min(batch_size, 64), device):
                scores = self.outputs(model, batch)
                labels = batch["labels"]
                loss += float(F.cross_entropy(scores.transpose(1, 2), labels, ignore_index=IGNORE, reduction="sum"))
                table += counts(labels.cpu(), scores.argmax(-1).cpu(), number)
        return described(table, loss, self.classes)

    def baseline(self, split: str = "valid") -> Baseline:
        """For each half metre of height the class that most training points there have."""
        number = len(self.classes)
        steps = round((self.extent[5] - self.extent[2]) / STEP) + 1

        def cells(part: str) -> tuple[Tensor, Tensor]:
            held = self.held[self.check_split(part)]
            known = held["labels"] != IGNORE
            height = (held["points"][..., 2][known] - self.extent[2]) / STEP
            return height.long().clamp(0, steps - 1), held["labels"][known]

        heights, labels = cells("train")
        most = torch.zeros(steps, number).index_put_((heights, labels), torch.ones(len(labels)), accumulate=True)
        heights, labels = cells(split)
        table = counts(labels, most.argmax(1)[heights], number)
        return Baseline("the most frequent class of each half metre of height", means(table)["miou"], self.margin)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """The class of every point of files (.bin, .npy) or of arrays `(n, values)`; None outside of the extent."""
        answers = []
        with measuring(model) as device:
            for given in inputs:
                values = self.held["train"]["points"].shape[-1]
                is_file = isinstance(given, str | Path)
                points = read_points(Path(given), values) if is_file else np.asarray(given, dtype=np.float32)
                if points.ndim != 2 or points.shape[1] != values:
                    raise DataError(f"the task {self.name!r} takes clouds (points, {values}); given {points.shape}.")
                rows = np.arange(len(points))
                inside = cropped(Cloud(points, rows), self.extent)
                labels = np.full(len(points), VOID)
                if len(inside.points):
                    held = torch.from_numpy(inside.points)[None]
                    batch = to_device({"points": held, "valid": torch.ones(held.shape[:2], dtype=torch.bool)}, device)
                    labels[inside.labels] = self.outputs(model, batch).argmax(-1)[0].cpu().numpy()
                answers.append(
                    {
                        "input": str(given) if is_file else None,
                        "labels": [self.classes[k] if k >= 0 else None for k in labels.tolist()],
                    }
                )
        return answers

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Clouds from above, by height and by class, `(h, w, 3)` uint8."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        return [
            {"input": self.drawn(p, None, v), "truth": self.drawn(p, k, v)}
            for p, k, v in zip(batch["points"], batch["labels"], batch["valid"], strict=True)
        ]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """From above: height, truth and guess side by side."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        with measuring(model) as device:
            guesses = self.outputs(model, to_device(batch, device)).argmax(-1).cpu()
        found = []
        for points, labels, valid, guess in zip(batch["points"], batch["labels"], batch["valid"], guesses, strict=True):
            score = means(counts(labels, guess, len(self.classes)))["miou"]
            panels = [self.drawn(points, kind, valid) for kind in (None, labels, guess)]
            found.append(Picture(f"height, truth, guess (mean IoU {score:.2f})", beside(panels)))
        return found

    def drawn(self, points: Tensor, labels: Tensor | None, valid: Tensor, side: int = 192) -> np.ndarray:
        """Points from above, y upwards, coloured by class, or shaded by height; those of no class are dark."""
        from PIL import Image, ImageDraw

        points = points[valid]
        if labels is None:
            low, high = self.extent[2], self.extent[5]
            shades = ((points[:, 2] - low) / (high - low)).clamp(0, 1) * 225 + 30
            colours = shades.long()[:, None].expand(-1, 3).tolist()
        else:
            labels = labels[valid]
            kinds = PALETTE[(labels.clamp(min=0).numpy() + 1) % len(PALETTE)]
            colours = np.where((labels != IGNORE).numpy()[:, None], kinds, np.uint8(60)).tolist()
        image = Image.new("RGB", (side, side))
        pen = ImageDraw.Draw(image)
        half = self.extent[3]
        spots = ((points[:, :2] / half + 1) / 2 * side).tolist()
        order = points[:, 2].argsort().tolist()  # what is higher hides what is lower
        for i in order:
            x, y = spots[i][0], side - spots[i][1]
            pen.rectangle((x - 1, y - 1, x + 1, y + 1), fill=tuple(colours[i]))
        return np.asarray(image)

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "source": self.source,
            "sizes": {split: self.size(split) for split in SPLITS},
            "classes": list(self.classes),
            "extent": list(self.extent),
            "points": self.points,
        }


TASKS = {"pointclouds": PointClouds}
