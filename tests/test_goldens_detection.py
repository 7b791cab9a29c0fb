"""Detectors and their backbones against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from golden import Golden


def timm_resnet(model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names: the stem before its pooling, the map of every stage, and logits."""
    logits, found = model(given["x"], taps=["embed.acts.0"])
    maps = [found["embed.acts.0"].movedim(-1, 1), *model.features(given["x"])]
    return {f"stages.{i}": m for i, m in enumerate(maps)} | {"logits": logits}


def transformers_detr(model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names; "masked": all but the first columns of the image are padding."""
    images = given["pixel_values"]
    memory = model.encode(images)
    last = model.predictions(images)[-1]
    valid = torch.zeros(images[:, 0].shape, dtype=torch.bool)
    valid[..., : int(given["valid"])] = True
    masked = model.predictions(images, valid)[-1]
    return {
        "logits": last.logits,
        "pred_boxes": last.boxes,
        "last_hidden_state": model.decode(memory)[-1],
        "encoder_last_hidden_state": memory.tokens,
        "masked_logits": masked.logits,
        "masked_pred_boxes": masked.boxes,
    }


def transformers_lw_detr(model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names; "enc": the proposals."""
    images = given["pixel_values"]
    proposals, *_, last = model.predictions(images)
    maps = model.project(images)
    return {
        "logits": last.logits,
        "pred_boxes": last.boxes,
        "last_hidden_state": model.decode(maps, proposals.boxes)[0][-1],
        "enc_outputs_class": proposals.logits,
        "enc_outputs_coord_logits": proposals.boxes,
    }


# The golden's reference has four sampled points and looks at the maps of other blocks than the published LW-DETRs.
REFERENCE = {"layers": (1, 3, 4, 8), "decoder.points": 4, "queries": 100}

CASES = {  # golden: (name for create_model, options, outputs under the golden's names)
    "resnet--resnet50--timm": ("timm:resnet50", {}, timm_resnet),
    "detr--detr-resnet-50--transformers": ("transformers:facebook/detr-resnet-50", {}, transformers_detr),
    "group_detr--lw-detr-tiny--transformers": ("lw_detr_small", REFERENCE, transformers_lw_detr),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, options, outputs = CASES[name]
    Golden(name).hold(create_model(ours, **options), outputs)
