"""How the authors name the Compact Transformers' parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.models.vision.compact_transformers import VARIANTS
from anyformer.weights.mapping import Table, table

BLOCK, OURS = "classifier.blocks.{i}.", "blocks.{i}."
BODY = table(
    ("classifier.class_emb", "prefix"),
    ("classifier.attention_pool.{p}", "head.pool.score.{p}"),
    (BLOCK + "pre_norm.{p}", OURS + "norm1.{p}"),
    (BLOCK + "norm1.{p}", OURS + "norm2.{p}"),
    (BLOCK + "self_attn.qkv.{p}", OURS + "mixer.qkv.{p}"),
    (BLOCK + "self_attn.proj.{p}", OURS + "mixer.out.{p}"),
    (BLOCK + "linear1.{p}", OURS + "ffn.up.{p}"),
    (BLOCK + "linear2.{p}", OURS + "ffn.down.{p}"),
    ("classifier.norm.{p}", "norm.{p}"),
    ("classifier.fc.{p}", "head.linear.{p}"),
)


def official(model: Any) -> Table:
    """The authors store fixed positions like learned ones, and a patch embedding like a tokenizer's first layer."""
    embed = "embed.layers.{i}.{p}" if hasattr(model.embed, "layers") else "embed.project.{p}"
    stored = model.position is not None and any(True for _ in model.position.parameters())
    return table(
        ("tokenizer.conv_layers.{i}.0.{p}", embed),
        *((("classifier.positional_emb", "position.table"),) if stored else ()),
        parent=BODY,
        ignore=() if stored else ("classifier.positional_emb",),
    )


SOURCES = {"official": official}
CIFAR100 = {"num_classes": 100}
_LITE = {name: name.replace("vit_lite", "vit") for name in VARIANTS if name.startswith("vit_lite")}
_SIZE = {name: "224" if "7x2" in name else "32" for name in VARIANTS if name != "cct_micro"}


def _theirs(ours: str) -> str:
    """`cct_7_3x1_sine` is `cct_7_3x1_32_sine`."""
    stem = ours.removesuffix("_sine")
    return f"{_LITE.get(stem, stem)}_{_SIZE[ours]}{ours[len(stem) :]}"


NAMES = {
    "official": {_theirs(ours): ours for ours in _SIZE}
    | {
        "cct_7_3x1_32_c100": ("cct_7_3x1", CIFAR100),
        "cct_7_3x1_32_sine_c100": ("cct_7_3x1_sine", CIFAR100),
        "cct_14_7x2_384": ("cct_14_7x2", {"image_size": 384}),
        "cct_14_7x2_384_fl": ("cct_14_7x2", {"image_size": 384, "num_classes": 102}),
    }
}
