"""TurboViT: does a generator that learns find better designs within a hard limit than drawing them?

Hieras for the digits, with at most half the multiply-adds of `hiera_micro`. Each design is trained briefly; the
validation part says what it is worth, and the best one's accuracy on the test part counts.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from anyformer.claims._digits import OPTIONS
from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile import operations
from anyformer.methods.search.generative import Design, Limit, generative_search
from anyformer.models import model_spec
from anyformer.models.vision.hiera import hiera
from anyformer.tasks.classification import ImageClassification

CLAIM = Claim(
    statement="Generative search returns a design within a hard limit that is no worse than the best of random ones.",
    baseline="As many designs, drawn evenly from those within the limit and trained alike; the best is chosen alike.",
    expect=(
        Expect("search_minus_random", at_least=-0.5, unit="points of test accuracy"),
        Expect("share_of_limit", at_most=1.0, unit="multiply-adds of the design found over the limit"),
    ),
    seeds=(1, 2, 3),
)
ROUNDS, PROPOSALS, EPOCHS = 3, 3, 3
CHOICES = {
    "first": (16, 24, 32, 48),
    "second": (16, 32, 48, 64, 96),
    "depth1": (1, 2, 3),
    "depth2": (1, 2, 3, 4),
    "unit": (2, 4),
    "local": (1, 2),
    "ratio": (1.0, 2.0, 3.0, 4.0),
}


def design_spec(design: Design) -> Spec:
    """The Hiera of a design."""
    return hiera(
        (design["first"], design["second"]),
        (design["depth1"], design["depth2"]),
        (2, 4),
        unit=design["unit"],
        local=design["local"],
        ratio=design["ratio"],
        embed=Spec("patch", size=2),
    )


def multiply_adds(spec: Spec) -> int:
    """Those of a model of this Spec for one of the digits."""
    with torch.device("meta"):
        model: Any = build(spec.set(**OPTIONS), "model")
        return operations(model, *model.example_inputs()).multiply_adds


def measure(seed: int) -> dict[str, float]:
    """Test accuracy in percent of the designs that both ways choose, and what the one found costs."""
    task = images_task(digits_at(8), classes=10)
    most = multiply_adds(model_spec("hiera_micro")) / 2
    limit = Limit("multiply-adds", lambda design: multiply_adds(design_spec(design)), most)
    trained = cache(partial(train, task=task, seed=seed))

    def score(design: Design) -> float:
        return accuracy(trained(tuple(design.items())), task, "valid")

    searched = generative_search(CHOICES, score, [limit], rounds=ROUNDS, proposals=PROPOSALS, seed=seed)
    drawn = generative_search(CHOICES, score, [limit], rounds=1, proposals=len(searched.trials), seed=seed + 1000)
    test = {
        name: 100 * accuracy(trained(tuple(found.best.design.items())), task)
        for name, found in (("searched", searched), ("random", drawn))
    }
    return {
        "search_minus_random": test["searched"] - test["random"],
        "share_of_limit": multiply_adds(design_spec(searched.best.design)) / most,
        "designs": float(len(searched.trials)),
        **test,
    }


def train(items: tuple[tuple[str, Any], ...], task: ImageClassification, seed: int) -> torch.nn.Module:
    """The model of a design, given as pairs, after a short training."""
    return fit(design_spec(dict(items)), task, seed, epochs=EPOCHS, batch_size=64, learning_rate=4e-3)
