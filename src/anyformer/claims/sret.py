"""Shen et al. 2021, arXiv:2111.05297: a block that is applied twice does more than one that is applied once."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.scale import count
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="With two blocks and the same parameters, steps and images, two passes through each are at least half a "
    "point better than one.",
    baseline="The same blocks applied once, their MLPs as much wider as the second projections cost.",
    expect=(Expect("two_minus_one", at_least=0.5, unit="points of test accuracy"),),
    seeds=(1, 2, 3),
)
STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds))
DIM, HEADS, DEPTH, RATIO, PROJECTION = 48, 4, 2, 2.0, 1.0


def model(repeats: int) -> Spec:
    """Two blocks on 4x4 tokens, with slices in the first pass as in the paper, and none in the second.

    A projection has 2 DIM^2 PROJECTION weights; with one pass, the second one's go to the block's MLP.
    """
    ratio = RATIO + PROJECTION * (2 - repeats)
    block = Spec(
        "recursive",
        repeats=repeats,
        mixer=Spec("sliced", heads=HEADS, groups=(2, 1) if repeats > 1 else (1,)),
        ffn=Spec("mlp", ratio=ratio),
        projection=Spec("mlp", ratio=PROJECTION),
    )
    return Spec(
        "isotropic",
        dim=DIM,
        depth=DEPTH,
        block=block,
        embed=Spec("patch", size=2),
        position=Spec("learned"),
        init="fan_in",
        **OPTIONS,
    )


def measure(seed: int) -> dict[str, float]:
    """Test accuracy on the digits of both, and their parameters."""
    specs = {"two": model(2), "one": model(1)}
    found = {name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS) for name, spec in specs.items()}
    sizes = {f"{name}_parameters": float(count(spec)) for name, spec in specs.items()}
    return {**found, **sizes, "two_minus_one": found["two"] - found["one"]}
