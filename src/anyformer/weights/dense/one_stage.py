"""The backbone's names are those of ResNet at its sources; the detector itself is ours."""

from __future__ import annotations

from typing import Any

from anyformer.weights.mapping import Table, inside
from anyformer.weights.vision.resnet import timm


def backbone(model: Any) -> Table:
    """A ResNet's names, for the backbone inside."""
    return inside(timm(model.backbone), "backbone")


SOURCES = {"timm": backbone, "official": backbone}
NAMES: dict[str, dict[str, Any]] = {}
