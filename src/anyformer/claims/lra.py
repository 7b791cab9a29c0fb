"""Long Range Arena: does an encoder learn ListOps at all, and what do longer sequences cost each kind of mixer?

ListOps of 8 to 64 tokens, generated; the arena's small encoder against the most frequent value. Then a layer alone, at
1,024 and 2,048 tokens: time of a training step of mixers that are linear in tokens, and memory that attention needs
beyond its fast form where its map is written out.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import torch
from torch import Tensor

from anyformer.claims._loop import one_cycle
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile import activation_memory
from anyformer.models.factory import create_model
from anyformer.tasks.arena import ListOps

CLAIM = Claim(
    statement="A transformer learns nested lists of digits far above guessing; the time of linear mixers grows as the "
    "tokens, and attention's map as their square.",
    baseline="The most frequent value; the same mixers at half the tokens.",
    expect=(
        Expect("above_majority", at_least=10.0, unit="points of test accuracy over the most frequent value"),
        Expect("time_growth", at_most=2.6, unit="time at 2,048 tokens over that at 1,024, the worst linear mixer"),
        Expect("memory_growth", at_least=3.9, at_most=4.1, unit="memory of attention's map, likewise"),
    ),
    seeds=(1, 2, 3),
)
STEPS, BATCH, RATE = 400, 64, 2e-3
DIM, HEADS, SHORT, LONG = 64, 2, 1024, 2048
LINEAR = {
    "linear": Spec("linear_attention", heads=HEADS),
    "performer": Spec("linear_attention", heads=HEADS, features=Spec("favor_features")),
    "linformer": Spec("linformer", heads=HEADS, projected=64),
    "nystrom": Spec("nystrom", heads=HEADS, landmarks=32),
    "fourier": Spec("fourier"),
}


@cache
def task() -> ListOps:
    """Expressions of at most 64 tokens."""
    return ListOps()


def accuracy(seed: int) -> float:
    """Percent of the test part right, after training."""
    model = create_model("lra_micro", **task().model_options())
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        rows = torch.randint(task().size("train"), (BATCH,), generator=generator)
        return task().loss(model, task().sample("train", rows))

    one_cycle(model, loss, steps=STEPS, rate=RATE, decay=0.01)
    return 100 * task().evaluate(model, "test")["accuracy"]


def layer(spec: Spec, tokens: int) -> Any:
    """A mixer for so many tokens."""
    return build(spec, "mixer", dim=DIM, grid=(tokens,))


def time_growth(spec: Spec, runs: int = 9) -> float:
    """Shortest processor time of a forward and backward pass over two long sequences, over that of two short ones.

    They take turns, and waiting does not count: other work on the machine slows both alike.
    """
    layers = [(layer(spec, tokens), torch.randn(2, tokens, DIM, requires_grad=True)) for tokens in (SHORT, LONG)]
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for (mixer, x), times in zip(layers, found, strict=True):
            start = time.process_time()
            mixer(x).sum().backward()
            times.append(time.process_time() - start)
    return min(found[1]) / min(found[0])


def memory(tokens: int) -> int:
    """Bytes that attention keeps for its backward pass where its map is written out, beyond those where it is not."""
    mixer, kept = layer(Spec("attention", heads=HEADS), tokens), []
    for mixer.scoring.record in (False, True):
        kept.append(activation_memory(mixer, torch.randn(1, tokens, DIM, requires_grad=True)))
    return kept[1] - kept[0]


def measure(seed: int) -> dict[str, float]:
    """Accuracy over the most frequent value, in points, and how time and memory grow."""
    found = accuracy(seed)
    guessing = 100 * task().baseline("test").value
    growth = {name: time_growth(spec) for name, spec in LINEAR.items()}
    return {
        "accuracy": found,
        "above_majority": found - guessing,
        "time_growth": max(growth.values()),
        **{f"time_growth_{name}": value for name, value in growth.items()},
        "memory_growth": memory(LONG) / memory(SHORT),
    }
