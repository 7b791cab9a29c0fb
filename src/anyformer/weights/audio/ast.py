"""How the AST authors and transformers name its parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.weights.mapping import table
from anyformer.weights.vision.vit import OFFICIAL as VIT
from anyformer.weights.vision.vit import TRANSFORMERS as VIT_TRANSFORMERS

HEAD = "head."
OFFICIAL = table(
    ("mlp_head.0.{p}", HEAD + "norm.{p}"),
    ("mlp_head.1.{p}", HEAD + "linear.{p}"),
    # The body's own heads of DeiT, which AST leaves aside.
    ignore=("head.{p}", "head_dist.{p}"),
    # Saved out of a data-parallel wrapper.
    prefixes=("module.v.", "v.", "module."),
    parent=VIT,
)
TRANSFORMERS = table(
    ("classifier.layernorm.{p}", HEAD + "norm.{p}"),
    ("classifier.dense.{p}", HEAD + "linear.{p}"),
    prefixes=("audio_spectrogram_transformer.",),
    parent=VIT_TRANSFORMERS,
)
SOURCES = {"official": OFFICIAL, "transformers": TRANSFORMERS}

# transformers' norms have another epsilon.
NORMS: dict[str, Any] = {"block.norm.eps": 1e-12, "norm.eps": 1e-12, "head.norm.eps": 1e-12}
NAMES: dict[str, dict[str, Any]] = {
    "official": {f"ast_{size}": f"ast_{size}" for size in ("tiny224", "small224", "base224", "base384")},
    "transformers": {
        f"MIT/ast-finetuned-audioset-{stride}-{stride}-{score}": (
            "ast_base384",
            {**NORMS, "embed.stride": stride},
        )
        for stride, score in (
            (10, "0.450"), (10, "0.448"), (10, "0.448-v2"), (10, "0.4593"), (12, "0.447"), (14, "0.443"), (16, "0.442"),
        )
    },
}  # fmt: skip
NAMES["transformers"]["MIT/ast-finetuned-speech-commands-v2"] = (
    "ast_base384",
    {**NORMS, "image_size": (128, 128), "num_classes": 35},
)
