"""Control models against the goldens of their references: parameter counts and outputs, through `load_reference`."""

from __future__ import annotations

import pytest
from torch import Tensor

from anyformer import create_model
from anyformer.core.segments import Segments
from golden import Golden


def transformers_decision(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names; once more with the first steps padded."""
    given = [inputs[name] for name in ("states", "actions", "returns_to_go", "timesteps")]
    (tokens,) = model.features(*given)
    found = model.predictions(tokens)
    pad = int(inputs["pad"])
    segments = Segments.from_lengths([20 - pad], 20, side="left")
    return {
        "state_preds": found["state"],
        "action_preds": found["action"],
        "return_preds": found["return"],
        "last_hidden_state": tokens,
        "masked_action_preds": model(*given, segments=segments)[:, pad:],
    }


UNUSED = 128 + 1023 * 128
"""Parameters that only the reference holds: a vocabulary of one, and all positions but the first."""

CASES = {  # golden: (name for create_model, outputs, parameters that only the reference holds)
    "decision_transformer--decision-transformer-gym-hopper--transformers": (
        "transformers:edbeeching/decision-transformer-gym-hopper-medium",
        transformers_decision,
        UNUSED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs, unused = CASES[name]
    Golden(name).hold(create_model(ours), outputs, idle=unused)
