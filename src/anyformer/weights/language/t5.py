"""How transformers and x-transformers name T5's parameters, and the names of its published sizes."""

from __future__ import annotations

from typing import Any

from anyformer.weights.layers import one_more, x_transformers_layer
from anyformer.weights.mapping import Table, table


def _side(side: str, channels: int) -> list[tuple]:
    """A side's blocks, whose channel mixer is their layer number `channels`."""
    theirs, ours = f"{side}.block.{{i}}.layer", f"{side}.{{i}}"
    return [
        (f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{side}_distance.table"),
        (tuple(f"{theirs}.0.SelfAttention.{x}.{{p}}" for x in "qkv"), f"{ours}.mixer.qkv.{{p}}"),
        (f"{theirs}.0.SelfAttention.o.{{p}}", f"{ours}.mixer.out.{{p}}"),
        (f"{theirs}.0.layer_norm.{{p}}", f"{ours}.norm1.{{p}}"),
        (f"{theirs}.{channels}.DenseReluDense.wi.{{p}}", f"{ours}.ffn.up.{{p}}"),
        (tuple(f"{theirs}.{channels}.DenseReluDense.wi_{x}.{{p}}" for x in "01"), f"{ours}.ffn.gate_up.{{p}}"),
        (f"{theirs}.{channels}.DenseReluDense.wo.{{p}}", f"{ours}.ffn.down.{{p}}"),
        (f"{theirs}.{channels}.layer_norm.{{p}}", f"{ours}.norm2.{{p}}"),
        (f"{side}.final_layer_norm.{{p}}", f"{side}_norm.{{p}}"),
    ]


TRANSFORMERS = table(
    ("shared.weight", "embedding.embed.weight"),
    ("encoder.embed_tokens.weight", "embedding.embed.weight"),
    ("decoder.embed_tokens.weight", "embedding.embed.weight"),
    ("lm_head.weight", "head.weight"),
    ("decoder.block.{i}.layer.1.EncDecAttention.q.{p}", "decoder.{i}.cross.query.{p}"),
    (tuple(f"decoder.block.{{i}}.layer.1.EncDecAttention.{x}.{{p}}" for x in "kv"), "decoder.{i}.cross.key_value.{p}"),
    ("decoder.block.{i}.layer.1.EncDecAttention.o.{p}", "decoder.{i}.cross.out.{p}"),
    ("decoder.block.{i}.layer.1.layer_norm.{p}", "decoder.{i}.norm_cross.{p}"),
    *_side("encoder", 1),
    *_side("decoder", 2),
    # the first T5's files hold it, and nobody reads it: attention to the source has no positions
    ignore=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
)


def x_transformers(model: Any) -> Table:
    """An encoder of x-transformers with T5's bias, which is learned there for scores before their scaling.

    With normed queries and keys their temperatures are fixed there; here they are learned, and loaded under our names.
    """
    widths = model.encoder[0].mixer.qkv.head_dim ** 0.5
    return table(
        ("token_emb.emb.weight", "embedding.embed.weight"),
        *(rule for i in range(len(model.encoder)) for rule in x_transformers_layer(i, f"encoder.{i}.")),
        ("encoder.{i}.mixer.scoring.logit_scale", "encoder.{i}.mixer.scoring.logit_scale"),
        ("rel_pos.relative_attention_bias.weight", "encoder_distance.table", lambda bias: bias * widths),
        ("final_norm.gamma", "encoder_norm.weight", one_more),
        ("to_logits.weight", "head.weight"),
        prefixes=("attn_layers.",),
    )


SOURCES = {"transformers": TRANSFORMERS, "x-transformers": x_transformers}

_SIZES = ("small", "base", "large", "xl", "xxl")
_FIRST = ("small", "base", "large", "3b", "11b")
NAMES = {
    "transformers": {f"{owner}t5-{size}": f"t5_{size}" for size in _FIRST for owner in ("", "google-t5/")}
    | {f"google/t5-v1_1-{size}": f"t5_v1_1_{size}" for size in _SIZES}
    | {f"google/t5-{size}-lm-adapt": f"t5_v1_1_{size}" for size in _SIZES}
    | {f"google/flan-t5-{size}": f"flan_t5_{size}" for size in _SIZES}
    | {f"google/mt5-{size}": f"mt5_{size}" for size in _SIZES}
    | {f"google/byt5-{size}": f"byt5_{size}" for size in _SIZES}
}
