"""How timm names gMLP's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

TIMM = table(
    ("stem.proj.{p}", "embed.project.{p}"),
    ("blocks.{i}.norm.{p}", "blocks.{i}.norm1.{p}"),
    ("blocks.{i}.mlp_channels.fc1.{p}", "blocks.{i}.mixer.up.{p}"),
    ("blocks.{i}.mlp_channels.gate.norm.{p}", "blocks.{i}.mixer.norm.{p}"),
    ("blocks.{i}.mlp_channels.gate.proj.{p}", "blocks.{i}.mixer.project.{p}"),
    ("blocks.{i}.mlp_channels.fc2.{p}", "blocks.{i}.mixer.down.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)
SOURCES = {"timm": TIMM}
NAMES = {"timm": {f"gmlp_{size}_224": f"gmlp_{size}" for size in ("ti16", "s16", "b16")}}
