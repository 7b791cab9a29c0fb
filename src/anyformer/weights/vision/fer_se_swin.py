"""The encoder's names are Swin's, wherever its weights come from; the paper published none of its own."""

from __future__ import annotations

from typing import Any

from anyformer.weights.vision.swin import SOURCES as SWIN

SOURCES = dict(SWIN)
NAMES: dict[str, dict[str, Any]] = {}
