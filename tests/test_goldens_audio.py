"""Audio models against the goldens of their references: parameter counts and outputs, through `load_reference`."""

from __future__ import annotations

import math

import pytest
from torch import Tensor

from anyformer import create_model
from anyformer.models.audio.mp_senet import polar
from golden import Golden


def official_ast(model, x: Tensor) -> dict[str, Tensor]:
    """Spectrograms `(b, frames, mels)`."""
    return {"output": model(x.transpose(1, 2)[:, None])}


def transformers_ast(model, input_values: Tensor) -> dict[str, Tensor]:
    """Spectrograms `(b, frames, mels)`; tokens with the two in front, and their mean."""
    images = input_values.transpose(1, 2)[:, None]
    return {"last_hidden_state": model.tokens(images), "pooler_output": model(images)}


def official_passt(model, x: Tensor) -> dict[str, Tensor]:
    """Logits, and the pooled tokens."""
    return {"0": model(x), "1": model.penultimate(x)}


def official_mp_senet(model, magnitude: Tensor, phase: Tensor) -> dict[str, Tensor]:
    """Magnitudes, phases and complex spectra."""
    found = model.estimate(magnitude, phase)
    return {"0": found[0], "1": found[1], "2": polar(*found)}


CASES = {  # golden: (name for create_model, options, outputs under the golden's names)
    "ast--ast_tiny224_128x100--official": (
        "official:ast_tiny224",
        {"image_size": (128, 100), "num_classes": 35},
        official_ast,
    ),
    "ast--ast-finetuned-audioset-10-10-0.4593--transformers": (
        "transformers:MIT/ast-finetuned-audioset-10-10-0.4593",
        {"num_classes": 0, "head.norm": None},
        transformers_ast,
    ),
    "passt_hear--passt_s_swa_p16_128_ap476--official": ("official:passt_s_swa_p16_128_ap476", {}, official_passt),
    "mp_senet--mpsenet--official": ("official:mpsenet", {}, official_mp_senet),
}
UNUSED = {  # parameters of the reference that its outputs do not depend on, and that ours does not have
    "passt_hear--passt_s_swa_p16_128_ap476--official": ("head_dist.weight", "head_dist.bias"),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, outputs = CASES[name]
    golden = Golden(name)
    idle = sum(math.prod(shape) for entry, shape, *_ in golden.data["state"] if entry in UNUSED.get(name, ()))
    golden.hold(create_model(ours, **options), lambda model, inputs: outputs(model, *inputs.values()), idle=idle)
