"""FIT's authors publish code and no weights; there are no names to translate."""

from __future__ import annotations

from anyformer.weights.mapping import Table

SOURCES: dict[str, Table] = {}
NAMES: dict[str, dict[str, str]] = {}
