"""Models of images and text against the goldens of their references: parameter counts and outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.segments import Segments
from golden import Golden


def transformers_clip(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names; texts end at their lengths, and the image's tokens are those before the last norm."""
    images, ids, lengths = (inputs[name] for name in ("pixel_values", "input_ids", "lengths"))
    for row, length in zip(ids, lengths.tolist(), strict=True):
        row[length - 1 :] = model.end
    _, found = model.image(images, taps=["blocks.11"])
    seen, read = model.encode_image(images), model.encode_text(ids)
    tokens = model.text.tokens(ids, Segments.from_lengths(lengths, ids.shape[1]))
    return {
        "logits_per_image": model.similarity(seen, read),
        "image_embeds": seen,
        "text_embeds": read,
        "text_last_hidden_state.valid0": tokens[:1, : lengths[0]],
        "vision_last_hidden_state": found["blocks.11"],
    }


def official_clip(model, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names; vectors before they are brought to length 1."""
    images, ids = inputs["image"], inputs["text"]
    ids[:, 0] = 49406
    for row, end in zip(ids, (9, 20), strict=True):
        row[end], row[end + 1 :] = model.end, 0
    return {
        "image_features": model.image_features(images),
        "text_features": model.text_features(ids),
        "logits_per_image": model(images, ids),
    }


KEPT = {
    "transformers": {"logit_scale": torch.tensor(2.6592)},
    "official": {"logit_scale": torch.tensor(1 / 0.07).log()},
}
"""Entries that the references start by themselves."""

CASES = {  # golden: (name for create_model, outputs)
    "clip--clip-vit-base-patch32--transformers": (
        "transformers:openai/clip-vit-base-patch32",
        transformers_clip,
    ),
    "clip--clip_rn50--official": ("official:RN50", official_clip),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs = CASES[name]
    golden = Golden(name)
    golden.hold(create_model(ours), outputs, kept=KEPT[golden.source])
