"""What a task is: splits of samples, a loss, a metric, and what a report shows of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.data.pictures import Picture
from anyformer.data.splits import SPLITS

Batch = dict[str, Tensor]
"""Tensors with the samples first."""

IGNORE = -100
"""The target of positions that count neither for the loss nor for a metric."""


@dataclass(frozen=True)
class Baseline:
    """What one gets without learning from the inputs.

    Attributes:
        what: the trivial answer, such as "the most frequent class".
        value: the task's metric for it.
        margin: by how much the task's `default_model` beats it when trained with the defaults.
    """

    what: str
    value: float
    margin: float


class Task(ABC):
    """Data, loss and metric that belong together.

    Sampling has no state: what `sample` returns depends on its arguments alone, so a resumed run, another process
    count and another micro-batch see the same samples.

    Class attributes:
        name: as in the index.
        metric: the key of `evaluate`'s result that is compared.
        higher_is_better: whether more of it is better.
        default_model: the variant that is trained where no model is named; it suits the data that the task ships.
        ahead: batches worth preparing in the background (0 where a batch costs next to nothing).
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool]
    default_model: ClassVar[str] = ""
    ahead: int = 0

    @abstractmethod
    def model_options(self) -> dict[str, Any]:
        """Options that a model needs to serve this task, for `create_model`."""

    @abstractmethod
    def size(self, split: str) -> int:
        """Number of samples in "train", "valid" or "test"."""

    @abstractmethod
    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """A batch of these samples, on the CPU.

        Args:
            split: "train", "valid" or "test".
            indices: `(b,)` int64, each below `size(split)`.
            seed: of the augmentation; the loop gives one per run and epoch.
            train: whether to augment.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss, in nats, over the batch's `count` targets: a scalar with a gradient."""

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """Number of targets that `loss` is the mean of; micro-batches are weighed by it."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """Measure the model on a whole split: `metric`, "loss", and what else the family knows."""

    @abstractmethod
    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What the model says of new inputs, one dictionary each."""

    @abstractmethod
    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """The first `n` samples of a split for people to look at: "input" (an array or a string) and "truth"."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Numbers that say which data this is, kept with results."""

    def baseline(self, split: str = "valid") -> Baseline | None:
        """The trivial answer that a trained model has to beat; None where a task states none."""
        return None

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """What the model makes of the first `n` samples, drawn; none where numbers and words say all."""
        return []

    def at(self, epoch: int) -> Task:
        """The task as it is in this epoch of training, from 0; itself where all epochs are alike."""
        return self

    def mix(self, batch: Batch, *, seed: int, indices: Tensor, mixup: float = 0.0, cutmix: float = 0.0) -> Batch:
        """Mix neighbours of a training batch (MixUp, CutMix); image tasks can."""
        raise OptionError(f"mixup and cutmix mix images; the task {self.name!r} has none: set both to 0.")

    def check_split(self, split: str) -> str:
        """Raise `OptionError` unless `split` is one of the three parts."""
        if split not in SPLITS:
            raise OptionError(f"a split is one of {', '.join(SPLITS)}; given {split!r}.")
        return split

    def batches(self, split: str, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Batch]]:
        """The whole split in order, as (indices, batch on the device)."""
        for indices in torch.arange(self.size(split)).split(batch_size):
            yield indices, to_device(self.sample(split, indices), device)

    def mean_loss(self, model: nn.Module, split: str, batch_size: int) -> tuple[float, int]:
        """The mean of `loss` over all targets of a split, and how many there are."""
        total, targets = 0.0, 0
        with measuring(model) as device:
            for _, batch in self.batches(split, batch_size, device):
                count = self.count(batch)
                total += float(self.loss(model, batch)) * count
                targets += count
        return total / targets, targets


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on another device; on the same one without a copy."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie; the CPU for a model without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def measuring(model: nn.Module) -> Iterator[torch.device]:
    """Inside, the model is in evaluation mode and keeps no gradients; gives its device."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield device_of(model)
    finally:
        model.train(was_training)
