"""Liu et al. 2022, arXiv:2201.03545: a modern convolutional pyramid needs no attention, and learns from few images."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.scale import scale_to
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model, model_spec

CLAIM = Claim(
    statement="On 300 images, a small ConvNeXt is well above a ViT of the same size that is trained as long.",
    baseline="A ViT over patches of 2x2, scaled to the same number of parameters.",
    expect=(Expect("convnext_minus_vit", at_least=2.0, unit="points of test accuracy"),),
)

STEPS = steps_each(arms=2, seeds=len(CLAIM.seeds))
IMAGES = 300


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of both on the digits, after 300 training images."""
    parameters = create_model("convnext_micro", **OPTIONS).num_parameters()
    vit = scale_to(model_spec("vit_micro"), parameters, **OPTIONS)
    convnext = model_spec("convnext_micro", **OPTIONS)
    found = {
        name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS, images=IMAGES)
        for name, spec in (("convnext", convnext), ("vit", vit))
    }
    return found | {"convnext_minus_vit": found["convnext"] - found["vit"]}
