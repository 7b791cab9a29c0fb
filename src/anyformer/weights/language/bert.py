"""How transformers names BERT's parameters, and the names of its published sizes."""

from __future__ import annotations

from anyformer.weights.mapping import table

BLOCK = (
    (
        tuple(f"encoder.layer.{{i}}.attention.self.{x}.{{p}}" for x in ("query", "key", "value")),
        "blocks.{i}.mixer.qkv.{p}",
    ),
    ("encoder.layer.{i}.attention.output.dense.{p}", "blocks.{i}.mixer.out.{p}"),
    ("encoder.layer.{i}.attention.output.LayerNorm.{p}", "blocks.{i}.norm1.{p}"),
    ("encoder.layer.{i}.intermediate.dense.{p}", "blocks.{i}.ffn.up.{p}"),
    ("encoder.layer.{i}.output.dense.{p}", "blocks.{i}.ffn.down.{p}"),
    ("encoder.layer.{i}.output.LayerNorm.{p}", "blocks.{i}.norm2.{p}"),
)
EMBEDDING = (
    ("embeddings.word_embeddings.weight", "embedding.embed.weight"),
    ("embeddings.position_embeddings.weight", "embedding.position.table"),
    ("embeddings.token_type_embeddings.weight", "embedding.types.weight"),
    ("embeddings.LayerNorm.{p}", "embedding.norm.{p}"),
)
TRANSFORMERS = table(
    *EMBEDDING,
    *BLOCK,
    ("pooler.dense.{p}", "head.dense.{p}"),
    ("classifier.{p}", "head.linear.{p}"),
    ("cls.predictions.transform.dense.{p}", "head.dense.{p}"),
    ("cls.predictions.transform.LayerNorm.{p}", "head.norm.{p}"),
    ("cls.predictions.bias", "head_bias"),
    ("cls.predictions.decoder.bias", "head_bias"),
    ("cls.predictions.decoder.weight", "embedding.embed.weight"),
    prefixes=("bert.",),
    ignore=("*embeddings.position_ids",),
)
SOURCES = {"transformers": TRANSFORMERS}

_HUB = {
    "google-bert/bert-base-uncased": "bert_base_uncased",
    "google-bert/bert-base-cased": "bert_base_cased",
    "google-bert/bert-large-uncased": "bert_large_uncased",
    "google-bert/bert-large-cased": "bert_large_cased",
    "google-bert/bert-large-uncased-whole-word-masking": "bert_large_uncased",
    "google-bert/bert-large-cased-whole-word-masking": "bert_large_cased",
    "google-bert/bert-base-multilingual-cased": "bert_base_multilingual_cased",
    "google-bert/bert-base-multilingual-uncased": "bert_base_multilingual_uncased",
    "google-bert/bert-base-chinese": "bert_base_chinese",
    "prajjwal1/bert-tiny": "bert_tiny",
    "prajjwal1/bert-mini": "bert_mini",
    "prajjwal1/bert-small": "bert_small",
    "prajjwal1/bert-medium": "bert_medium",
    "microsoft/MiniLM-L12-H384-uncased": "minilm_l12_h384",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm_l6_h384",
    "sentence-transformers/all-MiniLM-L12-v2": "minilm_l12_h384",
    "nreimers/MiniLM-L6-H384-uncased": "minilm_l6_h384",
}
_HUB |= {name.removeprefix("google-bert/"): ours for name, ours in _HUB.items() if name.startswith("google-bert/")}
_HUB |= {
    f"google/bert_uncased_L-{depth}_H-{dim}_A-{dim // 64}": f"bert_l{depth}_h{dim}"
    for depth in (2, 4, 6, 8, 10, 12)
    for dim in (128, 256, 512, 768)
}
NAMES = {"transformers": {theirs: (ours, {"num_classes": 0}) for theirs, ours in _HUB.items()}}
