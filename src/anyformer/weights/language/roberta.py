"""How transformers names RoBERTa's parameters and variants."""

from __future__ import annotations

from anyformer.weights.language.bert import BLOCK, EMBEDDING
from anyformer.weights.mapping import table

TRANSFORMERS = table(
    *EMBEDDING,
    *BLOCK,
    ("pooler.dense.{p}", "head.dense.{p}"),
    ("classifier.dense.{p}", "head.dense.{p}"),
    ("classifier.out_proj.{p}", "head.linear.{p}"),
    ("lm_head.dense.{p}", "head.dense.{p}"),
    ("lm_head.layer_norm.{p}", "head.norm.{p}"),
    ("lm_head.bias", "head_bias"),
    ("lm_head.decoder.bias", "head_bias"),
    ("lm_head.decoder.weight", "embedding.embed.weight"),
    prefixes=("roberta.",),
    ignore=("*embeddings.position_ids",),
)
SOURCES = {"transformers": TRANSFORMERS}

_HUB = {
    "roberta-base": "roberta_base",
    "roberta-large": "roberta_large",
    "xlm-roberta-base": "xlm_roberta_base",
    "xlm-roberta-large": "xlm_roberta_large",
}
_HUB |= {f"FacebookAI/{theirs}": ours for theirs, ours in _HUB.items()}
_HUB |= {"distilroberta-base": "distilroberta_base", "distilbert/distilroberta-base": "distilroberta_base"}
NAMES = {
    "transformers": {theirs: (ours, {"num_classes": 0}) for theirs, ours in _HUB.items()}
    | {f"{owner}roberta-large-mnli": ("roberta_large", {"num_classes": 3}) for owner in ("", "FacebookAI/")}
}
