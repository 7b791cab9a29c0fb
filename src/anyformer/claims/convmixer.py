"""Trockman and Kolter 2022, arXiv:2201.09792: plain convolutions over patches do as well as newer mixers of patches."""

from __future__ import annotations

from anyformer.claims._digits import OPTIONS, accuracy, steps_each
from anyformer.core.scale import scale_to
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model, model_spec

CLAIM = Claim(
    statement="Patches and convolutions at one resolution are at least level with an MLP-Mixer of the same size.",
    baseline="An MLP-Mixer scaled to the same number of parameters; and the ConvMixer with filters of one patch only.",
    expect=(
        Expect("convmixer", at_least=97.0, unit="percent of test accuracy"),
        Expect("convmixer_minus_mixer", at_least=0.0, unit="points of test accuracy"),
        Expect("lost_without_spatial_mixing", at_least=5.0, unit="points of test accuracy"),
    ),
)

STEPS = steps_each(arms=3, seeds=len(CLAIM.seeds))


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of the three on the digits, in patches of 2x2."""
    convmixer = model_spec("convmixer_micro", **OPTIONS)
    parameters = create_model(convmixer).num_parameters()
    specs = {
        "convmixer": convmixer,
        "mixer": scale_to(model_spec("mixer_micro"), parameters, **OPTIONS),
        "pointwise": convmixer.replace("block.mixer.kernel", 1).replace("block.mixer.std", 3**-0.5),
    }
    found = {name: accuracy(lambda spec=spec: create_model(spec), seed, steps=STEPS) for name, spec in specs.items()}
    return found | {
        "convmixer_minus_mixer": found["convmixer"] - found["mixer"],
        "lost_without_spatial_mixing": found["convmixer"] - found["pointwise"],
    }
