"""How timm and torchvision name ResNet's parameters and variants."""

from __future__ import annotations

from torch import nn

from anyformer.weights.mapping import Table, table

FIRST = "stages.{i-1}.downsample"
"""The block that a stage begins with, where channels or grid change."""

STARTS = (
    ("layer{i}.0.downsample.0.{p}", FIRST + ".shortcut.conv.{p}"),
    ("layer{i}.0.downsample.1.{p}", FIRST + ".shortcut.norm.{p}"),
    *((f"layer{{i}}.0.conv{k + 1}.{{p}}", f"{FIRST}.layers.{k}.conv.{{p}}") for k in range(3)),
    *((f"layer{{i}}.0.bn{k + 1}.{{p}}", f"{FIRST}.layers.{k}.norm.{{p}}") for k in range(3)),
)
# A first stage that begins with a plain block.
PLAIN = tuple(
    (f"layer1.{{j}}.{theirs}{k + 1}.{{p}}", f"stages.0.blocks.{{j}}.layers.{k}.{ours}.{{p}}")
    for theirs, ours in (("conv", "conv"), ("bn", "norm"))
    for k in range(2)
)
REST = (
    ("conv1.{p}", "embed.convs.0.{p}"),
    ("bn1.{p}", "embed.norms.0.{p}"),
    *(
        (f"layer{{i}}.{{j}}.conv{k + 1}.{{p}}", f"stages.{{i-1}}.blocks.{{j-1}}.layers.{k}.conv.{{p}}")
        for k in range(3)
    ),
    *((f"layer{{i}}.{{j}}.bn{k + 1}.{{p}}", f"stages.{{i-1}}.blocks.{{j-1}}.layers.{k}.norm.{{p}}") for k in range(3)),
    ("fc.{p}", "head.linear.{p}"),
)


def timm(model: nn.Module) -> Table:
    """Both libraries' names, for a ResNet whose first stage begins with a block of its own or a plain one."""
    plain = model.stages[0].downsample is None
    return table(*(PLAIN if plain else ()), *STARTS, *REST)


SOURCES = {"timm": timm, "official": timm}
NAMES = {
    source: {f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)} for source in ("timm", "official")
}
