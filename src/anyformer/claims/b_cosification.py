"""Arya et al. 2024, arXiv:2411.00715: a trained network becomes interpretable for a fifth of its training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anyformer.claims._images import accuracy, digits_at, images_task
from anyformer.data.seeds import permutation
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.explanation.bcos import bcosify, encode, explain
from anyformer.tasks.classification import ImageClassification

CLAIM = Claim(
    statement="A converted CNN keeps its accuracy after a fifth of the epochs, and its explanations point better.",
    baseline="The network before conversion, and its input gradients: positive or absolute, whichever is better.",
    expect=(
        Expect("lost_accuracy", at_most=1.5, unit="points of test accuracy"),
        Expect("localisation_gain", at_least=10.0, unit="points of attribution inside the right cell of a 2x2 grid"),
    ),
    seeds=(40, 41, 42),
)

EPOCHS, SHARE, GRIDS = 25, 0.2, 100


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def tasks(seed: int) -> tuple[ImageClassification, ImageClassification]:
    """The digits, and the same with their inverse as a second channel."""
    parts = digits_at(8, seed)
    doubled = {split: (encode(images), labels) for split, (images, labels) in parts.items()}
    return images_task(parts, 10), images_task(doubled, 10)


def grids(model: nn.Module, task: ImageClassification, seed: int) -> tuple[Tensor, Tensor]:
    """Grids `(n, c, 16, 16)` of four test images of four classes that the model is right about, and their labels."""
    part = task.parts["test"]
    images, labels = part.read(torch.arange(task.size("test"))), part.labels
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).nonzero()[:, 0]
    made, named = [], []
    draw = 0
    while len(made) < GRIDS:
        rows = right[permutation(len(right), seed * 10_000 + draw)[:4]]
        draw += 1
        if len(set(labels[rows].tolist())) == 4:
            a, b, c, d = images[rows]
            made.append(torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1))
            named.append(labels[rows])
    return torch.stack(made), torch.stack(named)


def inside(attribution: Tensor, cell: int) -> Tensor:
    """Share of the positive attribution `(n, 16, 16)` that lies in a cell, in percent."""
    positive = attribution.clamp(min=0)
    row, column = divmod(cell, 2)
    here = positive[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].sum((1, 2))
    return 100 * here / positive.sum((1, 2)).clamp(min=1e-12)


def measure(seed: int) -> dict[str, float]:
    """Test accuracy before and after, and how much of each explanation lies where the explained digit is."""
    plain, doubled = tasks(seed)
    torch.manual_seed(seed)

    def trained(model: nn.Module, task: ImageClassification, epochs: float, rate: float) -> nn.Module:
        config = TrainConfig(
            budget=f"{epochs:g}epochs", learning_rate=rate, seed=seed, evaluations=1, weight_decay=0.0, device="cpu"
        )
        return train(model, task, config, progress=False).model.eval()

    source = trained(cnn(), plain, EPOCHS, 2e-3)
    converted = trained(bcosify(copy.deepcopy(source)), doubled, SHARE * EPOCHS, 2e-3)
    images, labels = grids(source, plain, seed)
    contributions, positive, magnitude = [], [], []
    for cell in range(4):
        target = labels[:, cell]
        contributions.append(inside(explain(converted, encode(images), target).contributions, cell))
        given = images.clone().requires_grad_()
        chosen = source(given).gather(1, target[:, None]).sum()
        gradient = torch.autograd.grad(chosen, given)[0].sum(1)
        positive.append(inside(gradient, cell))
        magnitude.append(inside(gradient.abs(), cell))
    ours, first, second = (float(torch.cat(found).mean()) for found in (contributions, positive, magnitude))
    before, after = 100 * accuracy(source, plain), 100 * accuracy(converted, doubled)
    return {
        "source": before,
        "converted": after,
        "lost_accuracy": before - after,
        "contributions_inside": ours,
        "gradients_inside": max(first, second),
        "localisation_gain": ours - max(first, second),
    }
