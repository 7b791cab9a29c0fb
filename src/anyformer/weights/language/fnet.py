"""How transformers names FNet's parameters and its published sizes."""

from __future__ import annotations

from anyformer.weights.language import bert
from anyformer.weights.mapping import table

TRANSFORMERS = table(
    ("embeddings.LayerNorm.{p}", "embedding.norm.norm.{p}"),
    ("embeddings.projection.{p}", "embedding.norm.project.{p}"),
    ("encoder.layer.{i}.fourier.output.LayerNorm.{p}", "blocks.{i}.norm1.{p}"),
    prefixes=("fnet.",),
    parent=bert.TRANSFORMERS,
)
SOURCES = {"transformers": TRANSFORMERS}
NAMES = {
    "transformers": {
        "google/fnet-base": ("fnet_base", {"num_classes": 0}),
        "google/fnet-large": ("fnet_large", {"num_classes": 0}),
    }
}
