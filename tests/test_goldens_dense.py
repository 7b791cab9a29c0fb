"""Segmentation models against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
from torch import Tensor

from anyformer import create_model
from golden import Golden


def scores(model, images: Tensor) -> dict[str, Tensor]:
    return {"output": model(images)}


def transformers_segformer(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: the map of every stage, and scores before they are enlarged."""
    return {f"stages.{i}": m for i, m in enumerate(model.features(images))} | {"logits": model.scores(images)}


CASES = {  # golden: (name for create_model, outputs under the golden's names)
    "segformer--segformer-b0-ade--transformers": (
        "transformers:nvidia/segformer-b0-finetuned-ade-512-512",
        transformers_segformer,
    ),
    "segformer3d--segformer3d_brats--official": ("official:SegFormer3D", scores),
    "dc_swin--dcswin_tiny--official": ("official:dcswin_tiny", scores),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs = CASES[name]
    Golden(name).hold(create_model(ours), lambda model, inputs: outputs(model, *inputs.values()))
