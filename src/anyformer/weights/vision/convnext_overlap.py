"""How timm names the parameters and variants of ConvNeXt with an overlapping stem."""

from __future__ import annotations

from anyformer.weights.mapping import Rule, Table
from anyformer.weights.vision.convnext import TIMM as CONVNEXT

TIMM = Table(
    [
        Rule("stem.0.{p}", "embed.layers.0.{p}"),
        Rule("stem.1.{p}", "embed.layers.1.{p}"),
        Rule("stem.2.{p}", "embed.norm.{p}"),
    ],
    parent=CONVNEXT,
)
SOURCES = {"timm": TIMM}
NAMES = {"timm": {f"convnext_{size}_ols": f"convnext_overlap_{size}" for size in ("atto", "femto", "pico", "nano")}}
