"""Models of series and videos against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
from torch import Tensor

from anyformer import create_model
from golden import Golden


def official_predformer(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"output": model(*inputs.values())}


def transformers_patchtst(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    _, mean, deviation = model.scaled(inputs["past_values"])
    return {"prediction_outputs": model(inputs["past_values"]), "loc": mean, "scale": deviation}


CASES = {  # golden: (name for create_model, outputs, parameters that only the reference holds)
    "predformer--predformer_fullattention_mmnist--official": (
        "official:predformer_fullattention_mmnist",
        official_predformer,
        0,
    ),
    "patchtst--patchtst_etth1_forecast--transformers": (
        "transformers:namctin/patchtst_etth1_forecast",
        transformers_patchtst,
        42 * 128,  # fixed positions, kept as a parameter
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs, unused = CASES[name]
    Golden(name).hold(create_model(ours), outputs, idle=unused)
