"""How the authors name the parameters and variants of MedViT V2.

Their blocks are one row of "features" for all stages; every variant has local and global ones at the same places.
"""

from __future__ import annotations

from torch import Tensor

from anyformer.weights.mapping import table
from anyformer.weights.vision.dinat import offsets

LOCAL = {0: "stages.0.blocks.0.", 1: "stages.0.blocks.1.", 2: "stages.1.blocks.0."}
LOCAL |= {n: f"stages.2.blocks.{n - 4}." for n in (4, 5, 7, 8)}
GLOBAL = {3: "stages.1.blocks.1.", 6: "stages.2.blocks.2.", 9: "stages.2.blocks.5."}
GLOBAL |= {10: "stages.3.blocks.0.", 11: "stages.3.blocks.1."}


def pointwise(weight: Tensor) -> Tensor:
    """A 1x1 convolution as a linear layer."""
    return weight.flatten(1)


def local(theirs: str, ours: str) -> tuple[tuple, ...]:
    """The rules of a local block."""
    return (
        (theirs + "norm{k}.{p}", ours + "norm{k}.{p}"),
        (theirs + "attn.rpb", ours + "mixer.bias.table", offsets),
        (theirs + "attn.qkv.{p}", ours + "mixer.qkv.{p}"),
        (theirs + "attn.proj.{p}", ours + "mixer.out.{p}"),
        (theirs + "conv.conv.0.weight", ours + "ffn.up.weight", pointwise),
        (theirs + "conv.conv.1.{p}", ours + "ffn.norm_up.{p}"),
        (theirs + "conv.conv.3.{p}", ours + "ffn.depthwise.{p}"),
        (theirs + "conv.conv.4.{p}", ours + "ffn.norm_depthwise.{p}"),
        (theirs + "conv.conv.6.fc.0.{p}", ours + "ffn.gate.down.{p}"),
        (theirs + "conv.conv.6.fc.2.{p}", ours + "ffn.gate.up.{p}"),
        (theirs + "conv.conv.7.weight", ours + "ffn.down.weight", pointwise),
        (theirs + "conv.conv.8.{p}", ours + "ffn.norm_down.{p}"),
    )


def whole(theirs: str, ours: str) -> tuple[tuple, ...]:
    """The rules of a global block."""
    return (
        (theirs + "patch_embed.conv.weight", ours + "reduce.weight", pointwise),
        (theirs + "patch_embed.norm.{p}", ours + "norm_reduce.{p}"),
        (theirs + "norm{k}.{p}", ours + "norm{k}.{p}"),
        (theirs + "e_mhsa.q.{p}", ours + "mixer.q.{p}"),
        ((theirs + "e_mhsa.k.{p}", theirs + "e_mhsa.v.{p}"), ours + "mixer.kv.{p}"),
        (theirs + "e_mhsa.norm.{p}", ours + "mixer.norm.{p}"),
        (theirs + "e_mhsa.proj.{p}", ours + "mixer.out.{p}"),
        (theirs + "projection.conv.weight", ours + "project.weight", pointwise),
        (theirs + "projection.norm.{p}", ours + "norm_project.{p}"),
        (theirs + "mhca.group_conv3x3.{p}", ours + "local.{p}"),
        (theirs + "mhca.norm.{p}", ours + "local.norm.{p}"),
        (theirs + "mhca.projection.weight", ours + "local.out.weight", pointwise),
        (theirs + "kan.layers.0.layernorm.{p}", ours + "ffn.up.norm.{p}"),
        (theirs + "kan.layers.0.spline_linear.{p}", ours + "ffn.up.spline.{p}"),
        (theirs + "kan.layers.1.layernorm.{p}", ours + "ffn.down.norm.{p}"),
        (theirs + "kan.layers.1.spline_linear.{p}", ours + "ffn.down.spline.{p}"),
    )


def start(theirs: str, ours: str) -> tuple[tuple, ...]:
    """The rules of what brings a local block's channels to the stage's width."""
    return (
        (theirs + "patch_embed.conv.weight", ours + "project.weight", pointwise),
        (theirs + "patch_embed.norm.{p}", ours + "norm.{p}"),
    )


OFFICIAL = table(
    ("stem.{i}.conv.{p}", "embed.convs.{i}.{p}"),
    ("stem.{i}.norm.{p}", "embed.norms.{i}.{p}"),
    ("features.0.patch_embed.conv.{p}", "embed.convs.4.{p}"),
    ("features.0.patch_embed.norm.{p}", "embed.norms.4.{p}"),
    *start("features.2.", "stages.1.downsample."),
    *start("features.4.", "stages.2.downsample."),
    *(rule for n, ours in LOCAL.items() for rule in local(f"features.{n}.", ours)),
    *(rule for n, ours in GLOBAL.items() for rule in whole(f"features.{n}.", ours)),
    ("norm.{p}", "norm.{p}"),
    ("proj_head.0.{p}", "head.linear.{p}"),
    # Global blocks hold a convolution that they do not use; the points of the KANs are always the same.
    ignore=(*(f"features.{n}.conv.*" for n in GLOBAL), "*.rbf.grid"),
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {f"MedViT_{size}": f"medvit_v2_{size}" for size in ("tiny", "small", "base", "large")}}
