"""Bioformer's names: those of BERT's parameters, and of its two sizes."""

from __future__ import annotations

from anyformer.weights.language.bert import SOURCES as SOURCES

_HUB = {
    "bioformers/bioformer-8L": "bioformer_8l",
    "bioformers/bioformer-cased-v1.0": "bioformer_8l",  # its first name
    "bioformers/bioformer-16L": "bioformer_16l",
}
NAMES = {"transformers": {theirs: (ours, {"num_classes": 0}) for theirs, ours in _HUB.items()}}
