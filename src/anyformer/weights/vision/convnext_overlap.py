"""How timm names the parameters and variants of ConvNeXt with an overlapping stem."""

from __future__ import annotations

from typing import Any

from torch import nn

from anyformer.weights.mapping import Rule, Table
from anyformer.weights.vision.convnext import TIMM as CONVNEXT


def timm(model: Any) -> Table:
    """timm's names; an activation in the stem counts as a layer of it."""
    second = 1 if isinstance(model.embed.acts[0], nn.Identity) else 2
    stem = ("embed.convs.0.{p}", *[""] * (second - 1), "embed.convs.1.{p}", "embed.norms.1.{p}")
    return Table([Rule(f"stem.{i}.{{p}}", ours) for i, ours in enumerate(stem) if ours], parent=CONVNEXT)


SOURCES = {"timm": timm}
NAMES = {
    "timm": {f"convnext_{size}_ols": f"convnext_overlap_{size}" for size in ("atto", "femto", "pico", "nano")}
    | {"convnext_zepto_rms_ols": "convnext_overlap_zepto_rms"}
}
