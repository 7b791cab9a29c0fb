"""Yu et al. 2022, arXiv:2210.13452: with any mixer the frame is a good baseline; convolution is better than none."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

MODELS = ("identityformer", "randformer", "poolformerv2", "convformer")

CLAIM = Claim(
    statement=(
        "The frame works with identity, random, pooling and convolution mixers alike; convolution beats identity."
    ),
    baseline="The frame with the identity for a mixer.",
    expect=(
        *(Expect(name, at_least=85.0, unit="percent of test accuracy") for name in MODELS),
        Expect("convolution_minus_identity", at_least=1.0, unit="points of test accuracy"),
    ),
)

STEPS = steps_each(arms=4, seeds=len(CLAIM.seeds))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of the four small models on the digits."""
    found = {
        name: accuracy(lambda name=name: create_model(f"{name}_micro", **OPTIONS), seed, steps=STEPS) for name in MODELS
    }
    return found | {"convolution_minus_identity": found["convformer"] - found["identityformer"]}
