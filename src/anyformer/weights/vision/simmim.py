"""How transformers and the authors name SimMIM's parameters: the encoder's under a prefix, a mask token, a head."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anyformer.weights.mapping import Rule, Table, inside, table
from anyformer.weights.vision.swin import OFFICIAL as SWIN
from anyformer.weights.vision.swin import TRANSFORMERS as SWIN_TRANSFORMERS
from anyformer.weights.vision.vit import OFFICIAL as VIT

VIT_RELATIVE = table(
    ("rel_pos_bias.relative_position_bias_table", "bias.table"),
    ("blocks.{i}.attn.q_bias", "blocks.{i}.mixer.qkv.q_bias"),
    ("blocks.{i}.attn.v_bias", "blocks.{i}.mixer.qkv.v_bias"),
    ignore=("rel_pos_bias.relative_position_index",),
    parent=VIT,
)


def flat(tensor: Tensor) -> Tensor:
    """The mask token `(1, 1, c)` as `(c,)`; a 1x1 convolution `(o, i, 1, 1)` as a matrix."""
    return tensor.flatten() if tensor.shape[0] == 1 else tensor.flatten(1)


def whole(encoder: Table, prefix: str, token: str) -> Table:
    """The table of a model with this encoder."""
    own = [
        Rule(prefix + token, "mask_token", flat),
        Rule("decoder.0.weight", "decoder.weight", flat),
        Rule("decoder.0.bias", "decoder.bias"),
    ]
    under = inside(encoder, "encoder", prefix)
    return Table([*own, *under.rules], ignore=[n for n in under.ignore if n != prefix + token])


def official(model: Any) -> Table:
    """The authors' names, by the encoder."""
    return whole(SWIN if hasattr(model.encoder, "stages") else VIT_RELATIVE, "encoder.", "mask_token")


SOURCES = {"transformers": whole(SWIN_TRANSFORMERS, "swin.", "embeddings.mask_token"), "official": official}
NAMES = {
    "official": {
        "simmim_pretrain__vit_base__img224__800ep": "simmim_vit_base",
        "simmim_pretrain__swin_base__img192_window6__100ep": "simmim_swin_base",
        "simmim_pretrain__swin_large__img192_window12__800ep": "simmim_swin_large",
    },
}
