"""How transformers and the authors name Mamba's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

OFFICIAL = table(
    ("embedding.weight", "embedding.embed.weight"),
    ("layers.{i}.norm.{p}", "blocks.{i}.norm1.{p}"),
    ("layers.{i}.mixer.{p}", "blocks.{i}.mixer.{p}"),
    ("norm_f.{p}", "norm.{p}"),
    ("lm_head.weight", "embedding.embed.weight"),
    prefixes=("backbone.",),
)
TRANSFORMERS = table(("embeddings.weight", "embedding.embed.weight"), prefixes=("backbone.",), parent=OFFICIAL)
SOURCES = {"transformers": TRANSFORMERS, "official": OFFICIAL}

_SIZES = ("130m", "370m", "790m", "1.4b", "2.8b")
NAMES = {
    "transformers": {f"state-spaces/mamba-{size}-hf": f"mamba_{size}" for size in _SIZES},
    "official": {f"state-spaces/mamba-{size}": f"mamba_{size}" for size in _SIZES}
    | {f"mamba_{size}": f"mamba_{size}" for size in _SIZES},
}
