"""Liu et al. 2021, arXiv:2105.08050: MLPs with spatial gating need no attention; the gating does the work."""

from __future__ import annotations

from torch import nn

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.feedforward.spatial_gating import SpatialGating
from anyformer.models import create_model

CLAIM = Claim(
    statement=(
        "A gMLP classifies images well without attention; with its gates over the patches held shut it gets worse."
    ),
    baseline="The same gMLP with the gates' weights over the patches frozen at 0.",
    expect=(
        Expect("gmlp", at_least=95.0, unit="percent of test accuracy"),
        Expect("lost_without_gating", at_least=3.0, unit="points of test accuracy"),
    ),
)

STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds))


def without_gating() -> nn.Module:
    """A gMLP whose tokens never see each other."""
    model = create_model("gmlp_micro", **OPTIONS)
    for module in model.modules():
        if isinstance(module, SpatialGating):
            nn.init.zeros_(module.project.weight).requires_grad_(False)
    return model


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with and without gating on the digits, in patches of 2x2."""
    found = {
        "gmlp": accuracy(lambda: create_model("gmlp_micro", **OPTIONS), seed, steps=STEPS),
        "without": accuracy(without_gating, seed, steps=STEPS),
    }
    return found | {"lost_without_gating": found["gmlp"] - found["without"]}
