"""How the authors name RMT's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import Rule, Table, table

THEIRS, OURS = "layers.{i}.blocks.{j}.", "stages.{i}.blocks.{j}."


def stem(convolutions: int = 4) -> list[Rule]:
    """Their stem is a row of convolutions, norms and activations."""
    rules = []
    for i in range(convolutions):
        rules.append(Rule(f"patch_embed.proj.{3 * i}.{{p}}", f"embed.convs.{i}.{{p}}"))
        rules.append(Rule(f"patch_embed.proj.{3 * i + 1}.{{p}}", f"embed.norms.{i}.{{p}}"))
    return rules


OFFICIAL: Table = table(
    *stem(),
    (THEIRS + "pos.conv.{p}", OURS + "position.{p}"),
    (THEIRS + "retention_layer_norm.{p}", OURS + "norm1.{p}"),
    (THEIRS + "final_layer_norm.{p}", OURS + "norm2.{p}"),
    (tuple(THEIRS + f"retention.{n}_proj.{{p}}" for n in "qkv"), OURS + "mixer.qkv.{p}"),
    (THEIRS + "retention.lepe.conv.{p}", OURS + "mixer.local.{p}"),
    (THEIRS + "retention.out_proj.{p}", OURS + "mixer.out.{p}"),
    (THEIRS + "ffn.fc1.{p}", OURS + "ffn.up.{p}"),
    (THEIRS + "ffn.dwconv.conv.{p}", OURS + "ffn.depthwise.{p}"),
    (THEIRS + "ffn.fc2.{p}", OURS + "ffn.down.{p}"),
    (THEIRS + "gamma_{k}", OURS + "residual{k}.weight"),
    ("layers.{i}.downsample.reduction.{p}", "stages.{i+1}.downsample.project.{p}"),
    ("layers.{i}.downsample.norm.{p}", "stages.{i+1}.downsample.norm_after.{p}"),
    ("proj.{p}", "head.project.{p}"),
    ("norm.{p}", "head.norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
    ignore=("*.Relpos.angle", "*.Relpos.decay"),
)
SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {
        "RMT_T3": "rmt_tiny",
        "RMT_S": "rmt_small",
        "RMT_M2": "rmt_base",
        "RMT_L6": "rmt_large",
    }
}
