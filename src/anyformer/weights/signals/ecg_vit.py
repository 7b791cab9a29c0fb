"""Weights of the three backbones come under the names of their own families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyformer.weights.mapping import Table
from anyformer.weights.vision.beit import SOURCES as BEIT
from anyformer.weights.vision.swin import SOURCES as SWIN
from anyformer.weights.vision.vit import SOURCES as VIT


def source(name: str) -> Callable[[Any], Table]:
    """The table of a source, by the model's backbone."""

    def names(model: Any) -> Table:
        family = SWIN if hasattr(model, "stages") else BEIT if model.name == "beit" else VIT
        found = family[name]
        return found if isinstance(found, Table) else found(model)

    return names


SOURCES = {name: source(name) for name in ("timm", "transformers", "official")}
NAMES: dict[str, dict[str, Any]] = {}
