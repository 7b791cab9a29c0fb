"""How the authors name LoLA-SpecViT's dense parameters; those of its low-rank updates belong to the adaptation."""

from __future__ import annotations

from anyformer.weights.mapping import table

BLOCK, OURS = "levels.{i}.{j}.", "stages.{i}.blocks.{j}."


def convolutions() -> list[tuple[str, str]]:
    """The stem's three, each with its norm and activation in one list; the last entry of a stage is its reduction."""
    found = []
    for i in range(3):
        found += [
            (f"spectral_conv.{3 * i}.{{p}}", f"embed.convs.{i}.{{p}}"),
            (f"spectral_conv.{3 * i + 1}.{{p}}", f"embed.norms.{i}.{{p}}"),
        ]
    return found


OFFICIAL = table(
    *convolutions(),
    ("spectral_attention.fc.0.{p}", "embed.gate.down.{p}"),
    ("spectral_attention.fc.2.{p}", "embed.gate.up.{p}"),
    ("patch_embed.0.{p}", "embed.project.{p}"),
    ("patch_embed.1.{p}", "embed.norm.{p}"),
    ("pos_embed", "stages.0.position.table", lambda tensor: tensor.flatten(0, 2)),
    ("levels.{i}.{j}.conv.0.{p}", "stages.{i+1}.downsample.depthwise.{p}"),
    ("levels.{i}.{j}.conv.2.fc.0.{p}", "stages.{i+1}.downsample.gate.down.{p}"),
    ("levels.{i}.{j}.conv.2.fc.2.{p}", "stages.{i+1}.downsample.gate.up.{p}"),
    ("levels.{i}.{j}.conv.3.{p}", "stages.{i+1}.downsample.widen.{p}", lambda tensor: tensor.flatten(1)),
    ("levels.{i}.{j}.norm.{p}", "stages.{i+1}.downsample.norm.{p}"),
    ("levels.{i}.{j}.reduction.{p}", "stages.{i+1}.downsample.project.{p}"),
    (BLOCK + "attn.relative_position_bias_table", OURS + "mixer.bias.table"),
    (BLOCK + "attn.qkv.linear.{p}", OURS + "mixer.qkv.{p}"),
    (BLOCK + "attn.proj.linear.{p}", OURS + "mixer.out.{p}"),
    (BLOCK + "norm{k}.{p}", OURS + "norm{k}.{p}"),
    (BLOCK + "mlp.0.linear.{p}", OURS + "ffn.up.{p}"),
    ((BLOCK + "mlp.1.w1.{p}", BLOCK + "mlp.1.w2.{p}"), OURS + "ffn.swiglu.gate_up.{p}"),
    (BLOCK + "mlp.1.w3.{p}", OURS + "ffn.swiglu.down.{p}"),
    (BLOCK + "mlp.3.linear.{p}", OURS + "ffn.down.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("head.linear.{p}", "head.linear.{p}"),
    ignore=("*.relative_position_index",),
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {"EnhancedPEFTHyperspectralGCViT": "lola_specvit"}}
