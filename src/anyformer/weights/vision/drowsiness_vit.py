"""No weights of the framework are published; each stage takes those of its own family, before it is put in."""

from __future__ import annotations

from typing import Any

from anyformer.weights.mapping import inside
from anyformer.weights.vision.vit import OFFICIAL, TRANSFORMERS, timm

SOURCES: dict[str, Any] = {
    "timm": lambda model: inside(timm(model.classifier), "classifier"),
    "transformers": inside(TRANSFORMERS, "classifier"),
    "official": inside(OFFICIAL, "classifier"),
}
NAMES: dict[str, dict[str, Any]] = {}
