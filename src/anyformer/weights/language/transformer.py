"""How transformers (Marian) and torch.nn.Transformer name the Transformer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.layers import fairseq_layer, torch_layer
from anyformer.weights.mapping import split, table


def _marian_side(side: str) -> list[tuple]:
    theirs, ours = f"{side}.layers.{{i}}", f"{side}.{{i}}"
    return [
        *fairseq_layer(f"{theirs}.", f"{ours}."),
        (f"{theirs}.encoder_attn.q_proj.{{p}}", f"{ours}.cross.query.{{p}}"),
        (tuple(f"{theirs}.encoder_attn.{x}_proj.{{p}}" for x in "kv"), f"{ours}.cross.key_value.{{p}}"),
        (f"{theirs}.encoder_attn.out_proj.{{p}}", f"{ours}.cross.out.{{p}}"),
        (f"{theirs}.encoder_attn_layer_norm.{{p}}", f"{ours}.norm_cross.{{p}}"),
    ]


TRANSFORMERS = table(
    ("shared.weight", "embedding.embed.weight"),
    ("encoder.embed_tokens.weight", "embedding.embed.weight"),
    ("decoder.embed_tokens.weight", "embedding.embed.weight"),
    ("lm_head.weight", "embedding.embed.weight"),
    ("final_logits_bias", "head_bias"),
    *_marian_side("encoder"),
    *_marian_side("decoder"),
    prefixes=("model.",),
    ignore=("*.embed_positions.weight",),
)


def _torch_side(side: str, last_norm: int) -> list[tuple]:
    return [
        *torch_layer(f"{side}.layers.{{i}}.", f"{side}.{{i}}.", last_norm),
        (f"{side}.norm.{{p}}", f"{side}_norm.{{p}}"),
    ]


OFFICIAL = table(
    *_torch_side("encoder", 2),
    *_torch_side("decoder", 3),
    (
        "decoder.layers.{i}.multihead_attn.in_proj_{p}",
        ("decoder.{i}.cross.query.{p}", "decoder.{i}.cross.key_value.{p}"),
        split(1, 2),
    ),
    ("decoder.layers.{i}.multihead_attn.out_proj.{p}", "decoder.{i}.cross.out.{p}"),
    ("decoder.layers.{i}.norm2.{p}", "decoder.{i}.norm_cross.{p}"),
)
SOURCES = {"transformers": TRANSFORMERS, "official": OFFICIAL}

_MARIAN = {  # vocabulary of each pair of languages
    "en-de": 58101,
    "de-en": 58101,
    "en-fr": 59514,
    "fr-en": 59514,
    "en-es": 65001,
    "es-en": 65001,
    "en-ru": 62518,
    "ru-en": 62518,
    "en-zh": 65001,
    "zh-en": 65001,
    "en-ro": 59543,
}
NAMES = {
    "transformers": {
        f"Helsinki-NLP/opus-mt-{pair}": ("marian_base", {"vocab_size": size, "start": size - 1})
        for pair, size in _MARIAN.items()
    },
    # torch.nn.Transformer takes tokens that are embedded already, and norms the last block's output once more
    "official": {
        "transformer_base_torch": (
            "transformer_base",
            {"vocab_size": 0, "encoder_norm": "layernorm", "decoder_norm": "layernorm"},
        )
    },
}
