"""CoSwin: do convolutions beside window attention help a Swin on little data?"""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model, model_spec
from anyformer.models.vision.swin import swin

CLAIM = Claim(
    statement="With 500 training images, a Swin with convolutions beside its attention is a point above one without.",
    baseline="The same Swin without them: as deep and as wide, with the same learning rates to choose from and steps.",
    expect=(Expect("coswin_minus_swin", at_least=1.0, unit="points of test accuracy on digits"),),
    seeds=(1, 2, 3),
)
IMAGES = 500
STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy in percent of both."""
    plain: Spec = swin(32, (2, 2), (2, 4), windows=2, patch=2, ratio=2.0, image_size=8).set(init="fan_in", **OPTIONS)
    arms = {"coswin": model_spec("coswin_micro", **OPTIONS), "swin": plain}
    found = {
        name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS, images=IMAGES)
        for name, spec in arms.items()
    }
    return found | {"coswin_minus_swin": found["coswin"] - found["swin"]}
