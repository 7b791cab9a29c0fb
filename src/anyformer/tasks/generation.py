"""Generation: draw images of a class out of noise, with a model that learned to take noise off."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from anyformer.core.errors import DataError, FitError, OptionError, require
from anyformer.data.pictures import Picture, beside, colour, enlarge
from anyformer.data.seeds import combine, sample_seeds, scramble, uniform
from anyformer.data.splits import SPLITS
from anyformer.methods.decoding.diffusion import Diffusion, sample_diffusion
from anyformer.methods.decoding.flow import path_of, sample_flow
from anyformer.tasks.classification import Digits, Files, ImageClassification
from anyformer.tasks.task import Baseline, Batch, Task, measuring, to_device

TIMESTEPS = 1000
TIME, NOISE = 0, 1
"""Which of a sample's random numbers is its time, and which of a pixel's its noise."""
FEATURES = 32
KNOWN = 4096
"""Most images that the judge learns from, and that the baseline is fitted to."""


class Generation(Task):
    """Images of a class out of noise, in [-1, 1]. Metric: a Frechet distance; loss: squared error of what is told.

    The distance (Heusel et al. 2017, arXiv:1706.08500, through torchmetrics) lies between the images of a split and as
    many drawn ones of the same classes, in the 32 features of a small classifier, the judge: scikit-learn's MLP on the
    pixels of the training images, fitted when the task is made, always the same. Beside it "agreement", the share of
    drawn images in which the judge sees the class that was asked for.

    Args:
        path: images as the task "images" takes them, a folder with one folder per class or a table; None: digits.
        learns: what the model tells: "velocity" (flow matching; the model is asked at (1 - t) 1000) or "noise"
            (diffusion; with twice the channels the variance too), which takes longer to learn.
        schedule: of the diffusion: "linear" or "cosine".
        flow: path of the flow, a row of `methods.decoding.flow.PATHS`.
        steps: model calls for one drawn image, about (DDIM's steps; half as many of Heun's).
        scale: of the guidance when drawing; 1 for none.
        image_size, channels: of files.
        samples: images of an epoch of training, with new noise each time.
        seed: of the dealing out of files.

    Raises:
        OptionError: an unknown schedule or path; steps that no whole stride gives.
        DataError: what the task "images" raises.
    """

    name = "generation"
    metric = "frechet"
    higher_is_better = False
    default_model = "dit_micro"
    margin = 2.0

    def __init__(
        self,
        path: str | Path | None = None,
        learns: Literal["velocity", "noise"] = "velocity",
        schedule: str = "linear",
        flow: str = "cond_ot",
        steps: int = 25,
        scale: float = 1.0,
        image_size: int = 32,
        channels: int = 3,
        samples: int = 9600,
        seed: int = 0,
    ):
        if learns not in ("noise", "velocity"):
            raise OptionError(f"learns is 'noise' or 'velocity'; given {learns!r}.")
        if samples < 1 or steps < 2:
            raise OptionError(f"samples is 1 or more and steps 2 or more; given samples={samples}, steps={steps}.")
        self.data: ImageClassification = Digits() if path is None else Files(path, image_size, channels, seed=seed)
        self.learns, self.scale, self.steps, self.samples = learns, scale, steps, samples
        self.classes, self.shape = self.data.classes, self.data.shape
        self.flow = path_of(flow)
        # By the channels of a model's answer: noise alone, or noise and variance.
        kinds = {self.shape[0]: "fixed_small", 2 * self.shape[0]: "learned_range"}
        self.process = {n: Diffusion(schedule, TIMESTEPS, None, kind) for n, kind in kinds.items()}  # type: ignore[arg-type]
        self.short = {n: Diffusion(schedule, TIMESTEPS, f"ddim{steps}", kind) for n, kind in kinds.items()}  # type: ignore[arg-type]
        self.known = self.images("train", torch.arange(min(self.data.size("train"), KNOWN)))
        self.judge = fit_judge(*self.known)

    def images(self, split: str, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] and their labels, without augmentation."""
        batch = self.data.sample(split, indices)
        mean, deviation = self.data.normalization
        return (batch["images"] * deviation + mean).clamp(0, 1) * 2 - 1, batch["labels"]

    def model_options(self) -> dict[str, Any]:
        return self.data.model_options()

    def size(self, split: str) -> int:
        return self.samples if self.check_split(split) == "train" else self.data.size(split)

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "images" `(b, c, h, w)` in [-1, 1], "labels", "noise" of the images' shape, "time" in [0, 1)."""
        images, labels = self.images(split, indices % self.data.size(split))
        # Outside training, noise and time are those of the sample, whatever the run.
        seeds = sample_seeds(seed if train else combine(SPLITS.index(split)), indices)
        return {
            "images": images,
            "labels": labels,
            "noise": normal(seeds, self.shape),
            "time": uniform(seeds, TIME).float(),
        }

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Squared error of what the model tells, a mean per image; with the variance's term where it tells that."""
        images, noise, labels = batch["images"], batch["noise"], batch["labels"]
        if self.learns == "velocity":
            t = batch["time"]
            told = self.told(model, self.flow.place(noise, images, t), (1 - t) * TIMESTEPS, labels)
            error = told[:, : self.shape[0]] - self.flow.velocity(noise, images, t)
            return error.square().flatten(1).mean(1)
        step = (batch["time"] * TIMESTEPS).long()
        x = self.process[self.shape[0]].add_noise(images, step, noise)
        told = self.told(model, x, step, labels)
        return self.process[told.shape[1]].loss(told, x, images, step, noise)

    def told(self, model: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The model's answer. Raises `FitError` for one that is no denoiser of such images."""
        try:
            answer = model(x, t, labels)
        except TypeError as error:
            raise FitError(f"generation takes a denoiser, model(x, t, labels), such as dit_micro: {error}.") from error
        if answer.shape[1] not in self.process or answer.shape[2:] != x.shape[2:]:
            raise FitError(
                f"generation takes a denoiser that gives {tuple(x.shape[1:])}, or twice the channels; "
                f"this one gives {tuple(answer.shape[1:])}: take dit_micro or another DiT."
            )
        return answer.float()

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise OptionError("label_smoothing is for classifiers; generation has none: set it to 0.")
        return self.losses(model, batch).mean()

    def count(self, batch: Batch) -> int:
        return len(batch["images"])

    def draw(self, model: nn.Module, labels: Tensor, seed: int = 0) -> Tensor:
        """An image in [-1, 1] for each label."""
        noise = torch.randn(len(labels), *self.shape, generator=torch.Generator().manual_seed(seed))
        if self.learns == "velocity":
            calls = max(1, self.steps // 2)
            x = sample_flow(model, noise, labels, path=self.flow, scale=self.scale, steps=calls, timesteps=TIMESTEPS)
            return x.clamp(-1, 1).cpu()
        with measuring(model) as device:
            first = to_device({"x": noise[:1], "labels": labels[:1]}, device)
            told = self.told(model, first["x"], torch.zeros(1, device=device), first["labels"]).shape[1]
        return sample_diffusion(model, noise, labels, diffusion=self.short[told], scale=self.scale).clamp(-1, 1).cpu()

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """ "frechet", "agreement", and "loss", that of held-out images with noise that is always the same."""
        total, drawn = 0.0, []
        with measuring(model) as device:
            for indices, batch in self.batches(split, batch_size, device):
                total += float(self.losses(model, batch).sum())
                drawn.append(self.draw(model, batch["labels"].cpu(), seed=combine(int(indices[0]))))
        size = self.size(split) if split != "train" else min(self.samples, self.data.size("train"))
        images, labels = self.images(split, torch.arange(size))
        made = torch.cat(drawn)[:size]
        return {**self.judged(made, images, labels), "loss": total / self.size(split)}

    def judged(self, made: Tensor, images: Tensor, labels: Tensor) -> dict[str, float]:
        """ "frechet" between made and real images, and "agreement" of the made ones with their labels."""
        distance = require("torchmetrics.image.fid", "lab").FrechetInceptionDistance(feature=self.judge)
        distance.update(images, real=True)
        distance.update(made, real=False)
        with torch.no_grad():
            seen = self.judge.classify(made)
        return {"frechet": float(distance.compute()), "agreement": float((seen == labels).float().mean())}

    def baseline(self, split: str = "valid") -> Baseline:
        """Draws of a normal distribution with the mean and the covariance of the training images' pixels."""
        images, labels = self.images(split, torch.arange(self.data.size(split)))
        made = gaussian(self.known[0], len(images))
        value = self.judged(made, images, labels)["frechet"]
        stated = self.data.name == "digits" and self.learns == "velocity"
        return Baseline("a Gaussian fitted to the pixels", value, self.margin if stated else 0.0)

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """One sheet: a column for each class (the first 16), of `n` drawn images and a real one below them."""
        images, labels = self.images(split, torch.arange(self.data.size(split)))
        shown = [k for k in range(min(len(self.classes), 16)) if bool((labels == k).any())]
        made = self.draw(model, torch.tensor(shown).repeat_interleave(n)).view(len(shown), n, *self.shape)
        factor = max(1, 40 // self.shape[1])
        columns = []
        for drawn, label in zip(made, shown, strict=True):
            real = images[labels == label][:1]
            tiles = [enlarge(colour(((x + 1) / 2).numpy()), factor) for x in torch.cat([drawn, real])]
            columns.append(np.concatenate([np.pad(t, ((0, 4), (0, 0), (0, 0)), constant_values=255) for t in tiles]))
        names = ", ".join(self.classes[k] for k in shown)
        return [Picture(f"drawn images of {names}; the last row is real", beside(columns))]

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """An image for each name of a class: "pixels", rows of columns of channels, 0 to 255."""
        if len(inputs) == 0:
            return []
        for name in inputs:
            if str(name) not in self.classes:
                raise DataError(f"images are drawn of a class: {', '.join(self.classes)}; given {name!r}.")
        made = self.draw(model, torch.tensor([self.classes.index(str(name)) for name in inputs]))
        pixels = (((made + 1) / 2) * 255).round().byte().permute(0, 2, 3, 1)
        return [{"input": str(name), "pixels": p.tolist()} for name, p in zip(inputs, pixels, strict=True)]

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        return self.data.examples(split, min(n, self.data.size(split)))

    def facts(self) -> dict[str, Any]:
        own = {
            "task": self.name,
            "learns": self.learns,
            "steps": self.steps,
            "scale": self.scale,
            "epoch": self.samples,
        }
        return {**self.data.facts(), **own}


def normal(seeds: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers `(b, *shape)` that follow from the samples' seeds `(b,)`."""
    places = scramble(seeds[:, None] ^ scramble(torch.arange(math.prod(shape))))
    chance = uniform(places, NOISE).clamp(min=2.0**-54)
    return (torch.erfinv(2 * chance - 1) * math.sqrt(2)).float().view(len(seeds), *shape)


class Judge(nn.Module):
    """A classifier of pixels, fitted elsewhere: features `(b, 32)`, those of its last hidden layer."""

    num_features = FEATURES

    def __init__(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], classes: np.ndarray):
        super().__init__()
        self.weights = [torch.from_numpy(np.asarray(w)).float() for w in weights]
        self.biases = [torch.from_numpy(np.asarray(b)).float() for b in biases]
        self.classes = torch.from_numpy(np.asarray(classes)).long()

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = (x @ weight + bias).relu()
        return x

    def classify(self, images: Tensor) -> Tensor:
        """The likeliest class of each image."""
        scores = self(images) @ self.weights[-1] + self.biases[-1]
        # Between two classes scikit-learn's network gives one score.
        return self.classes[(scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(-1)]


def fit_judge(images: Tensor, labels: Tensor) -> Judge:
    """scikit-learn's network of 64 and 32 hidden units on pixels, 60 epochs."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier((64, FEATURES), max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty epochs do for what it is asked
        network.fit(images.flatten(1).numpy(), labels.numpy())
    return Judge(network.coefs_, network.intercepts_, network.classes_)


def gaussian(images: Tensor, count: int, seed: int = 0) -> Tensor:
    """Draws of the normal distribution fitted to the pixels of images, cut to [-1, 1]."""
    flat = images.flatten(1).double()
    mean = flat.mean(0)
    _, deviations, ways = torch.linalg.svd((flat - mean) / max(len(flat) - 1, 1) ** 0.5, full_matrices=False)
    drawn = torch.randn(count, len(deviations), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    made = mean + (drawn * deviations) @ ways
    return made.float().clamp(-1, 1).view(count, *images.shape[1:])


TASKS = {"generation": Generation}
