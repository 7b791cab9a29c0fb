"""How transformers names OPT's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

TRANSFORMERS = table(
    ("decoder.embed_tokens.weight", "embedding.embed.weight"),
    ("decoder.embed_positions.weight", "embedding.position.table"),
    (tuple(f"decoder.layers.{{i}}.self_attn.{x}_proj.{{p}}" for x in "qkv"), "blocks.{i}.mixer.qkv.{p}"),
    ("decoder.layers.{i}.self_attn.out_proj.{p}", "blocks.{i}.mixer.out.{p}"),
    ("decoder.layers.{i}.self_attn_layer_norm.{p}", "blocks.{i}.norm1.{p}"),
    ("decoder.layers.{i}.fc1.{p}", "blocks.{i}.ffn.up.{p}"),
    ("decoder.layers.{i}.fc2.{p}", "blocks.{i}.ffn.down.{p}"),
    ("decoder.layers.{i}.final_layer_norm.{p}", "blocks.{i}.norm2.{p}"),
    ("decoder.final_layer_norm.{p}", "norm.{p}"),
    ("lm_head.weight", "embedding.embed.weight"),
    prefixes=("model.",),
)
SOURCES = {"transformers": TRANSFORMERS}
NAMES = {
    "transformers": {
        f"facebook/opt-{size}": f"opt_{size}" for size in ("125m", "1.3b", "2.7b", "6.7b", "13b", "30b", "66b")
    }
}
