"""No weights of the paper are published; the encoder takes those of Swin at its sources."""

from __future__ import annotations

from typing import Any

from anyformer.core.errors import CheckpointError
from anyformer.weights.mapping import Table, inside
from anyformer.weights.vision.swin import SOURCES as SWIN


def encoder(source: str) -> Any:
    """A Swin's names at a source, for the backbone inside."""

    def names(model: Any) -> Table:
        if not hasattr(model, "backbone"):
            raise CheckpointError("the U-Net's parameters have no names elsewhere: load it with source='anyformer'.")
        return inside(SWIN[source], "backbone")

    return names


SOURCES = {source: encoder(source) for source in SWIN}
NAMES: dict[str, dict[str, Any]] = {}
