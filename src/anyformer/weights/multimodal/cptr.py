"""How timm names CPTR's encoder, and torch.nn.TransformerDecoder its decoder; each fills its side of a captioner."""

from __future__ import annotations

from typing import Any

from anyformer.weights.language.transformer import OFFICIAL
from anyformer.weights.mapping import Table, inside
from anyformer.weights.vision.vit import timm as vit


def timm(model: Any) -> Table:
    """timm's names of a ViT, for the encoder alone."""
    return inside(vit(model.encoder), "encoder")


SOURCES = {"timm": timm, "official": OFFICIAL}
NAMES: dict[str, dict] = {}
