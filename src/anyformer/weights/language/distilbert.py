"""How transformers names DistilBERT's parameters and variants."""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.weights.language.bert import EMBEDDING
from anyformer.weights.mapping import table

_LAYER = "transformer.layer.{i}"
TRANSFORMERS = table(
    *EMBEDDING,
    (tuple(f"{_LAYER}.attention.{x}_lin.{{p}}" for x in "qkv"), "blocks.{i}.mixer.qkv.{p}"),
    (f"{_LAYER}.attention.out_lin.{{p}}", "blocks.{i}.mixer.out.{p}"),
    (f"{_LAYER}.sa_layer_norm.{{p}}", "blocks.{i}.norm1.{p}"),
    (f"{_LAYER}.ffn.lin1.{{p}}", "blocks.{i}.ffn.up.{p}"),
    (f"{_LAYER}.ffn.lin2.{{p}}", "blocks.{i}.ffn.down.{p}"),
    (f"{_LAYER}.output_layer_norm.{{p}}", "blocks.{i}.norm2.{p}"),
    ("pre_classifier.{p}", "head.dense.{p}"),
    ("classifier.{p}", "head.linear.{p}"),
    ("vocab_transform.{p}", "head.dense.{p}"),
    ("vocab_layer_norm.{p}", "head.norm.{p}"),
    ("vocab_projector.weight", "embedding.embed.weight"),
    ("vocab_projector.bias", "head_bias"),
    prefixes=("distilbert.",),
    ignore=("*embeddings.position_ids",),
)
SOURCES = {"transformers": TRANSFORMERS}

_BARE = {"head": Spec("classifier", pool=Spec("class")), "num_classes": 0}
_BASE = {
    "distilbert-base-uncased": "distilbert_base_uncased",
    "distilbert-base-cased": "distilbert_base_cased",
    "distilbert-base-multilingual-cased": "distilbert_base_multilingual_cased",
}
_OWNERS = ("", "distilbert/")
NAMES = {
    "transformers": {f"{owner}{theirs}": (ours, _BARE) for theirs, ours in _BASE.items() for owner in _OWNERS}
    | {
        f"{owner}distilbert-base-uncased-finetuned-sst-2-english": ("distilbert_base_uncased", {"num_classes": 2})
        for owner in _OWNERS
    }
}
