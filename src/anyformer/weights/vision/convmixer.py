"""How timm and the authors name ConvMixer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

TIMM = table(
    ("stem.0.{p}", "embed.project.{p}"),
    ("stem.2.{p}", "embed.norm.{p}"),
    ("blocks.{i}.0.fn.0.{p}", "blocks.{i}.mixer.{p}"),
    ("blocks.{i}.0.fn.2.{p}", "blocks.{i}.norm1.{p}"),
    ("blocks.{i}.1.{p}", "blocks.{i}.linear.{p}"),
    ("blocks.{i}.3.{p}", "blocks.{i}.norm2.{p}"),
    ("head.{p}", "head.linear.{p}"),
)

# The authors' model is one list: stem, blocks from its fourth place on, and the classifier at its end.
OFFICIAL = table(
    ("0.{p}", "embed.project.{p}"),
    ("2.{p}", "embed.norm.{p}"),
    ("{i+3}.0.fn.0.{p}", "blocks.{i}.mixer.{p}"),
    ("{i+3}.0.fn.2.{p}", "blocks.{i}.norm1.{p}"),
    ("{i+3}.1.{p}", "blocks.{i}.linear.{p}"),
    ("{i+3}.3.{p}", "blocks.{i}.norm2.{p}"),
    ("{i}.weight", "head.linear.weight"),
    ("{i}.bias", "head.linear.bias"),
    prefixes=("module.",),
)

SOURCES = {"timm": TIMM, "official": OFFICIAL}
NAMES = {
    "timm": {
        "convmixer_1536_20": "convmixer_1536_20",
        "convmixer_768_32": "convmixer_768_32",
        "convmixer_1024_20_ks9_p14": "convmixer_1024_20",
    },
    "official": {"convmixer_1536_20": "convmixer_1536_20", "convmixer_768_32": "convmixer_768_32"},
}
