"""Pretraining against the goldens of its references: reconstructions, losses and corruptions."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch

from anyformer import create_model
from anyformer.methods.pretraining.gmml import corrupt
from anyformer.methods.pretraining.masking import masked_l1, pixels
from golden import Golden


def official_simmim(model, images, mask) -> dict[str, torch.Tensor]:
    restored = model(images, mask)
    loss = masked_l1(restored, images, pixels(mask.bool(), images.shape[2:]))
    return {"loss": loss, "encoder": model.encode(images, mask), "reconstruction": restored}


def transformers_simmim(model, images, mask) -> dict[str, torch.Tensor]:
    return {"reconstruction": model(images, mask.view(1, 48, 48))}


SIMMIM = {  # golden: (name for create_model, outputs under the golden's names)
    "simmim--simmim_vit_base_img224--official": ("simmim_vit_base", official_simmim),
    "simmim--swin-base-simmim-window6-192--transformers": ("simmim_swin_base", transformers_simmim),
}


@pytest.mark.parametrize("name", SIMMIM)
def test_simmim(name: str):
    ours, outputs = SIMMIM[name]
    Golden(name).hold(create_model(ours), lambda model, inputs: outputs(model, *inputs.values()))


def test_gmml_corruption():
    golden = Golden("gmml--gmml_corruption--official")
    image, other = golden.inputs().values()
    found = {}
    for case, kwargs in golden.data["kwargs"].items():
        if not isinstance(kwargs, dict):
            continue
        fill: Any = {"anything else": "copy"}.get(kwargs.get("drop_type", "noise"), kwargs.get("drop_type", "noise"))
        corrupted, mask = corrupt(
            image,
            numpy.random.RandomState(kwargs["seed"]),
            ratio=kwargs["max_replace"],
            align=kwargs["align"],
            fills=(fill,),
            largest=golden.data["kwargs"]["max_block_sz"],
            other=other if case.startswith("replace_other") else None,
        )
        if case.startswith("noise"):
            found[f"{case}.corrupted_outside"] = corrupted * ~mask
        else:
            found[f"{case}.corrupted"] = corrupted
            found[f"{case}.masked_fraction"] = mask.float().mean()
        found[f"{case}.mask_grid16"] = mask.float().unflatten(0, (14, 16)).unflatten(2, (14, 16)).mean((1, 3))
    golden.check(found)
