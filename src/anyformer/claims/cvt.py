"""Wu et al. 2021, arXiv:2103.15808: convolutional projections make positions superfluous, and learn from few images."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.scale import scale_to
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model, model_spec

CLAIM = Claim(
    statement=(
        "Without positions a CvT loses next to nothing and a ViT much; on 300 images the CvT is well above the ViT."
    ),
    baseline=(
        "The same CvT with learned positions in every stage; a ViT of as many parameters over patches of 2x2, with "
        "and without positions; all trained as long, each at the better of two learning rates."
    ),
    expect=(
        Expect("cvt_lost_without_positions", at_most=1.0, unit="points of test accuracy"),
        Expect("vit_lost_without_positions", at_least=3.0, unit="points of test accuracy"),
        Expect("cvt_minus_vit", at_least=2.0, unit="points of test accuracy"),
    ),
    seeds=(1, 2, 3),
)

STEPS = steps_each(arms=4, seeds=len(CLAIM.seeds))
IMAGES = 300


def arms() -> dict[str, Spec]:
    """The four models: as published, and with positions where there are none and without where there are."""
    cvt = model_spec("cvt_micro", **OPTIONS)
    vit = scale_to(model_spec("vit_micro"), create_model(cvt).num_parameters(), **OPTIONS)
    positions = {f"stages.{i}.position": Spec("learned") for i in range(2)}
    return {
        "cvt": cvt,
        "cvt_with_positions": model_spec(cvt, **positions),
        "vit": vit,
        "vit_without_positions": vit.set(position=None),
    }


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of the four on the digits, after 300 training images."""
    found = {
        name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS, images=IMAGES)
        for name, spec in arms().items()
    }
    return found | {
        "cvt_lost_without_positions": found["cvt_with_positions"] - found["cvt"],
        "vit_lost_without_positions": found["vit"] - found["vit_without_positions"],
        "cvt_minus_vit": found["cvt"] - found["vit"],
    }
