"""The authors of t2 publish weights of a TensorFlow model per data set, in its own format; none are translated."""

from __future__ import annotations

from anyformer.weights.mapping import Table

SOURCES: dict[str, Table] = {}
NAMES: dict[str, dict[str, str]] = {}
