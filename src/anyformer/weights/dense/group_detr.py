"""A trained Group DETR is a DETR: its names are those of DETR, with the queries of all groups in one matrix."""

from __future__ import annotations

from anyformer.weights.dense.detr import SOURCES

__all__ = ["NAMES", "SOURCES"]

NAMES: dict[str, dict[str, str]] = {}
