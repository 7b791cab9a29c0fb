"""MOAT: are its blocks better than transformer blocks of the same size where images are few?"""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.scale import scale_to
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model

CLAIM = Claim(
    statement="On 500 images, blocks of mobile convolution and attention are a point above transformer blocks.",
    baseline="Blocks of the same attention and an MLP, scaled to the same number of parameters; trained alike.",
    expect=(Expect("moat_minus_transformer", at_least=1.0, unit="points of test accuracy on digits"),),
    seeds=(1, 2, 3),
)
IMAGES = 500
STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds)) * 2 // 3  # its convolutions take longer than other blocks


def model(block: str) -> Spec:
    """Four such blocks with global attention among patches of 2x2 pixels, with learned positions and biases of offsets.

    MOAT's convolutions tell it where things are; without the positions the transformer hardly knew.
    """
    mixer = Spec("window", heads=2, window=4)
    options = {"ffn": Spec("mlp", ratio=4.0)} if block == "prenorm" else {}
    return Spec(
        "isotropic",
        dim=48,
        depth=4,
        embed=Spec("patch", size=2),
        position=Spec("learned"),
        block=Spec(block, mixer=mixer, **options),
        head=Spec("classifier"),
        init="fan_in",
        **OPTIONS,
    )


def measure(seed: int) -> dict[str, float]:
    """Test accuracy in percent of both."""
    moat = model("moat")
    parameters = create_model(moat).num_parameters()
    arms = {"moat": moat, "transformer": scale_to(model("prenorm"), parameters)}
    found = {
        name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS, images=IMAGES)
        for name, spec in arms.items()
    }
    return found | {"moat_minus_transformer": found["moat"] - found["transformer"]}
