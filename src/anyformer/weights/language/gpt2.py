"""How transformers names GPT-2's parameters and variants; its linear layers are stored as (in, out)."""

from __future__ import annotations

from anyformer.weights.mapping import table, transpose

TRANSFORMERS = table(
    ("wte.weight", "embedding.embed.weight"),
    ("wpe.weight", "embedding.position.table"),
    ("h.{i}.ln_{j}.{p}", "blocks.{i}.norm{j}.{p}"),
    ("h.{i}.attn.c_attn.weight", "blocks.{i}.mixer.qkv.weight", transpose),
    ("h.{i}.attn.c_attn.bias", "blocks.{i}.mixer.qkv.bias"),
    ("h.{i}.attn.c_proj.weight", "blocks.{i}.mixer.out.weight", transpose),
    ("h.{i}.attn.c_proj.bias", "blocks.{i}.mixer.out.bias"),
    ("h.{i}.mlp.c_fc.weight", "blocks.{i}.ffn.up.weight", transpose),
    ("h.{i}.mlp.c_fc.bias", "blocks.{i}.ffn.up.bias"),
    ("h.{i}.mlp.c_proj.weight", "blocks.{i}.ffn.down.weight", transpose),
    ("h.{i}.mlp.c_proj.bias", "blocks.{i}.ffn.down.bias"),
    ("ln_f.{p}", "norm.{p}"),
    ("lm_head.weight", "embedding.embed.weight"),
    prefixes=("transformer.",),
    ignore=("h.{i}.attn.bias", "h.{i}.attn.masked_bias"),
)
SOURCES = {"transformers": TRANSFORMERS}

_HUB = {"gpt2": "gpt2", "gpt2-medium": "gpt2_medium", "gpt2-large": "gpt2_large", "gpt2-xl": "gpt2_xl"}
NAMES = {
    "transformers": _HUB
    | {f"openai-community/{theirs}": ours for theirs, ours in _HUB.items()}
    | {"distilgpt2": "distilgpt2", "distilbert/distilgpt2": "distilgpt2"}
}
