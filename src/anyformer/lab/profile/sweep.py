"""Profile a model over sizes: every quantity at each size, and how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from anyformer.core.errors import SizeError
from anyformer.lab.profile.growth import growth_exponent
from anyformer.lab.profile.latency import Latency, measure_latency
from anyformer.lab.profile.memory import activation_memory
from anyformer.lab.profile.operations import evaluation, operations
from anyformer.lab.train.distributed import choose_device

QUANTITIES = {
    "operations": "multiply-adds",
    "activations": "activation memory (bytes)",
    "latency": "latency (s, batch 1)",
    "throughput": "throughput (inputs/s)",
}
"""What is measured at each size, and its name in tables and plots."""


@dataclass(frozen=True)
class Point:
    """One model at one size.

    Attributes:
        size: image side or sequence length as asked for; None for the model's own.
        positions: numbers in one input: pixels times channels, or tokens.
        operations: multiply-adds of one input.
        other: elements touched by all other arithmetic.
        uncounted: operators without a formula, in neither number.
        activations: bytes saved for the backward pass of one input.
        latency: one input.
        throughput: inputs per second at `batch`.
        batch: inputs at once in `throughput`.
    """

    size: int | None
    positions: int
    operations: int
    other: int
    uncounted: tuple[str, ...]
    activations: int
    latency: Latency
    throughput: float
    batch: int

    def value(self, quantity: str) -> float:
        """One of `QUANTITIES` as a number."""
        value = getattr(self, quantity)
        return value.median if isinstance(value, Latency) else value


@dataclass(frozen=True)
class Profile:
    """A model over sizes.

    Attributes:
        name: the model.
        parameters: how many it has.
        device: where it ran.
        points: one per size, in the order asked for.
        growth: per quantity the exponent in the number of positions; empty for a single size.
    """

    name: str
    parameters: int
    device: str
    points: tuple[Point, ...]
    growth: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `--json` prints it."""
        return asdict(self)


def profile(
    model: Any,
    sizes: Sequence[int] | None = None,
    *,
    name: str | None = None,
    batch: int = 8,
    seconds: float = 0.5,
    device: str = "cpu",
    **options: Any,
) -> Profile:
    """Measure a model at each size.

    Args:
        model: a model with `example_inputs(size, batch)`, or a name or Spec for `create_model`.
        sizes: image sides or sequence lengths; without them the model's own size.
        name: how tables call it; by default the name it was created by.
        batch: inputs at once for the throughput; latency and the rest are at batch 1.
        seconds: least time spent on each timing.
        device: where it runs: "cpu", "cuda", ..., or "auto" for a GPU where there is one.
        options: given to `create_model` with a name or Spec.

    Raises:
        SizeError: a size below 1, or one that the model cannot take.
        OptionError: a device that this machine does not have.
    """
    where = choose_device(device)
    if not isinstance(model, nn.Module):
        from anyformer.models import create_model

        name = name or (model if isinstance(model, str) else model.name)
        model = create_model(model, **options)
    if any(size < 1 for size in sizes or ()) or batch < 1:
        raise SizeError(f"sizes and batch are 1 or more; given sizes {list(sizes or ())} and batch {batch}.")
    model = model.to(where)
    with evaluation(model):
        points = tuple(measure(model, size, batch, seconds, where) for size in sizes or (None,))
    return Profile(
        name=name or type(model).__name__,
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(where),
        points=points,
        growth=growths(points),
    )


def measure(model: Any, size: int | None, batch: int, seconds: float, device: torch.device) -> Point:
    """One model, in evaluation mode, at one size."""

    def inputs_for(rows: int) -> tuple[Any, ...]:
        inputs = model.example_inputs(size=size, batch=rows)
        return tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, inputs)

    one, many = inputs_for(1), inputs_for(batch)
    counted = operations(model, *one)
    activations = activation_memory(model, *one)
    with torch.inference_mode():
        latency = measure_latency(lambda: model(*one), seconds=seconds, device=device.type)
        together = measure_latency(lambda: model(*many), seconds=seconds, device=device.type)
    return Point(
        size=size,
        positions=sum(t.numel() for t in tree_leaves(one) if isinstance(t, Tensor)),
        operations=counted.multiply_adds,
        other=counted.other,
        uncounted=counted.uncounted,
        activations=activations,
        latency=latency,
        throughput=batch / together.median,
        batch=batch,
    )


def growths(points: Sequence[Point]) -> dict[str, float]:
    """The growth exponent of each quantity that is positive at two or more different sizes."""
    positions = [p.positions for p in points]
    if len(set(positions)) < 2:
        return {}
    values = {q: [p.value(q) for p in points] for q in QUANTITIES}
    return {q: growth_exponent(positions, v) for q, v in values.items() if min(v) > 0}
