"""Yu et al. 2021, arXiv:2111.11418: the frame matters more than the token mixer; even averaging neighbours will do."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="In the same frame, averaging over neighbours comes close to attention, and mixes more than nothing.",
    baseline="The same PoolFormer with attention (4 heads), and with the identity, in place of pooling.",
    expect=(
        Expect("pooling_minus_attention", at_least=-3.0, unit="points of test accuracy"),
        Expect("pooling_minus_identity", at_least=2.0, unit="points of test accuracy"),
    ),
)

STEPS = steps_each(arms=3, seeds=len(CLAIM.seeds))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of the three mixers on the digits."""
    swaps = {"pooling": {}, "attention": {"mixer": Spec("attention", heads=4)}, "identity": {"mixer": "identity"}}
    found = {
        name: accuracy(lambda swap=swap: create_model("poolformer_micro", **OPTIONS, **swap), seed, steps=STEPS)
        for name, swap in swaps.items()
    }
    return found | {
        "pooling_minus_attention": found["pooling"] - found["attention"],
        "pooling_minus_identity": found["pooling"] - found["identity"],
    }
