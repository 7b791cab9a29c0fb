"""How the authors name DC-Swin's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import Rule, table
from anyformer.weights.vision.swin import OFFICIAL as SWIN

# Their backbone is the Swin of detection and segmentation: classification's names, and a norm of each stage's map.
BACKBONE = [
    Rule(f"backbone.{rule.theirs}", f"backbone.{rule.ours}")
    for rule in SWIN.all_rules()
    if isinstance(rule.theirs, str) and rule.theirs.startswith(("patch_embed.", "layers."))
]
DECODER = "decoder.dcfam."


def _conv_norm(theirs: str, ours: str) -> list[tuple[str, str]]:
    return [(f"{theirs}.0.{{p}}", f"{ours}.conv.{{p}}"), (f"{theirs}.1.{{p}}", f"{ours}.norm.{{p}}")]


def _down(theirs: str, ours: str) -> list[tuple[str, str]]:
    parts = (("convbn1", "first"), ("convbn2", "second"), ("downsample", "beside"))
    return [rule for a, b in parts for rule in _conv_norm(f"{DECODER}{theirs}.{a}", f"head.{ours}.{b}")]


def _large(theirs: str, ours: str) -> list[tuple[str, str]]:
    parts = (("0", "depthwise"), ("1", "project"), ("2", "norm"))
    places = (("0", "0"), ("2", "1"))  # an enlargement stands between the two convolutions
    return [(f"{DECODER}{theirs}.{i}.{a}.{{p}}", f"head.{ours}.{j}.{b}.{{p}}") for i, j in places for a, b in parts]


OFFICIAL = table(
    *BACKBONE,
    ("backbone.norm{i}.{p}", "norms.{i}.{p}"),
    (DECODER + "conv4.0.{p}", "head.coarsest.{p}"),
    (DECODER + "conv1.0.{p}", "head.finest.{p}"),
    *_large("lf4", "large4"),
    *_large("lf3", "large3"),
    (DECODER + "ca.gamma", "head.channel.gamma"),
    (DECODER + "pa.gamma", "head.spatial.gamma"),
    (DECODER + "pa.query_conv.{p}", "head.spatial.mixer.q.{p}"),
    (DECODER + "pa.key_conv.{p}", "head.spatial.mixer.k.{p}"),
    (DECODER + "pa.value_conv.{p}", "head.spatial.mixer.v.{p}"),
    *_down("down12", "down12"),
    *_down("down231", "down23.0"),
    *_down("down232", "down23.1"),
    *_down("down34", "down34"),
    *_conv_norm("decoder.segmentation_head.0", "head.smooth"),
    ("decoder.segmentation_head.1.0.{p}", "head.classify.{p}"),
    *_conv_norm("decoder.up.0", "head.up"),
    prefixes=("net.",),  # the authors' training files hold the network by this name
    ignore=("*.relative_position_index",),
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {f"dcswin_{size}": f"dcswin_{size}" for size in ("tiny", "small", "base")}}
