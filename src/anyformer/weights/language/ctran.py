"""How the authors' notebook names CTRAN's parameters; its four modules are saved apart, here under their names."""

from __future__ import annotations

from torch import Tensor

from anyformer.weights.language.bert import TRANSFORMERS
from anyformer.weights.layers import torch_layer
from anyformer.weights.mapping import inside, table

ENCODER, DECODER = "middle.transformer_encoder.layers.{i}.", "decoder.transformer_decoder.layers.{i}."
BERT = "bert_layer.bert_model."
CONVOLUTIONS = {"conv4": 0, "conv1": 1, "conv2": 2, "conv3": 3}
"""Of kernels 1, 2, 3 and 5."""


def values(projection: Tensor) -> Tensor:
    """Of a projection to queries, keys and values the values': with one key a query, the others change nothing."""
    return projection.chunk(3)[2]


OFFICIAL = table(
    *((f"encoder.{theirs}.{{p}}", f"windows.convs.{ours}.{{p}}") for theirs, ours in CONVOLUTIONS.items()),
    *torch_layer(ENCODER, "encoder.{i}."),
    *torch_layer(DECODER, "decoder.{i}.", 3),
    (DECODER + "multihead_attn.in_proj_{p}", "decoder.{i}.cross.value.{p}", values),
    (DECODER + "multihead_attn.out_proj.{p}", "decoder.{i}.cross.out.{p}"),
    (DECODER + "norm2.{p}", "decoder.{i}.norm_cross.{p}"),
    ("decoder.embedding.weight", "embedding.embed.weight"),
    ("decoder.slot_trans.{p}", "tags.{p}"),
    ("decoder.self_attention.in_proj_{p}", "intent.mixer.qkv.{p}"),
    ("decoder.self_attention.out_proj.{p}", "intent.mixer.out.{p}"),
    ("decoder.layer_norm.{p}", "intent.norm1.{p}"),
    ("decoder.intent_out.{p}", "head.linear.{p}"),
    *inside(TRANSFORMERS, "language", BERT).rules,
    # the layer that the others are copies of, a head on BERT's pooled vector that is never called, and that vector
    ignore=(
        "decoder.decoder_layer.*",
        "decoder.intent_out_cls.*",
        BERT + "pooler.*",
        BERT + "embeddings.position_ids",
        "*.pos_encoder.pe",
        "*.transformer_mask",
    ),
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {"ctran_bert_base": "ctran_bert_base", "ctran_bert_large": "ctran_bert_large"}}
