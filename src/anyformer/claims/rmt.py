"""RMT: does attention that fades with the distance on the grid learn more from few images?

Digits with a token for every pixel, and 300 of them to learn from. The decay alone differs: with every gamma at 1 the
same blocks attend to all pixels alike.
"""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="An explicit decay with Manhattan distance raises accuracy where there are few images to learn from.",
    baseline="The same net without decay (every gamma is 1), with the same weights at the start, trained alike.",
    expect=(Expect("decay_minus_none", at_least=1.0, unit="points of test accuracy"),),
    seeds=(1, 2, 3),
)
STEPS, IMAGES, HEADS = 200, 300, 2


def model(decay: Spec) -> Spec:
    """Two blocks of Manhattan attention at the resolution of the pixels."""
    mixer = Spec("manhattan", heads=HEADS, decay=decay)
    block = Spec("prenorm", mixer=mixer, ffn=Spec("mlp", ratio=2.0))
    return Spec("isotropic", dim=32, depth=2, block=block, embed=Spec("patch", size=1), init="fan_in")


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with the published decays, and without decay."""
    decays = {"decay": Spec("manhattan_decay"), "none": Spec("manhattan_decay", gammas=(1.0,) * HEADS)}
    found = {
        name: accuracy(lambda decay=decay: create_model(model(decay), **OPTIONS), seed, steps=STEPS, images=IMAGES)
        for name, decay in decays.items()
    }
    return found | {"decay_minus_none": found["decay"] - found["none"]}
