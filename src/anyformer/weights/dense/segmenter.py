"""Segmenters of our own making, for which nobody else has weights."""

from __future__ import annotations

from anyformer.weights.mapping import Table

SOURCES: dict[str, Table] = {}
NAMES: dict[str, dict[str, str]] = {}
