"""Tolstikhin et al. 2021, arXiv:2105.01601: MLPs over patches and over channels are enough; both are needed."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement=(
        "An MLP over the patches and one over the channels classify images well; without the first it gets worse."
    ),
    baseline="The same Mixer without its MLPs over the patches.",
    expect=(
        Expect("mixer", at_least=95.0, unit="percent of test accuracy"),
        Expect("lost_without_token_mixing", at_least=3.0, unit="points of test accuracy"),
    ),
)

STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with and without token mixing on the digits, in patches of 2x2."""
    found = {
        "mixer": accuracy(lambda: create_model("mixer_micro", **OPTIONS), seed, steps=STEPS),
        "without": accuracy(lambda: create_model("mixer_micro", mixer="identity", **OPTIONS), seed, steps=STEPS),
    }
    return found | {"lost_without_token_mixing": found["mixer"] - found["without"]}
