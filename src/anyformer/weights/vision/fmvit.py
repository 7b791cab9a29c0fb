"""FMViT's parameters have no names elsewhere: its authors published neither code nor weights."""

from __future__ import annotations

from anyformer.weights.mapping import Table

SOURCES: dict[str, Table] = {}
