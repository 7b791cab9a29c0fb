"""How the authors name Uformer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table


def _stage(theirs: str, ours: str) -> list[tuple]:
    theirs, ours = f"{theirs}.blocks.{{j}}", f"{ours}.blocks.{{j}}"
    return [
        (f"{theirs}.norm{{k}}.{{p}}", f"{ours}.norm{{k}}.{{p}}"),
        (f"{theirs}.modulator.weight", f"{ours}.mixer.modulator"),
        (f"{theirs}.attn.relative_position_bias_table", f"{ours}.mixer.bias.table"),
        ((f"{theirs}.attn.qkv.to_q.{{p}}", f"{theirs}.attn.qkv.to_kv.{{p}}"), f"{ours}.mixer.qkv.{{p}}"),
        (f"{theirs}.attn.proj.{{p}}", f"{ours}.mixer.out.{{p}}"),
        (f"{theirs}.mlp.linear1.0.{{p}}", f"{ours}.ffn.up.{{p}}"),
        (f"{theirs}.mlp.dwconv.0.{{p}}", f"{ours}.ffn.depthwise.{{p}}"),
        (f"{theirs}.mlp.linear2.0.{{p}}", f"{ours}.ffn.down.{{p}}"),
    ]


OFFICIAL = table(
    ("input_proj.proj.0.{p}", "down.embed.project.{p}"),
    *_stage("encoderlayer_{i}", "down.stages.{i}"),
    ("dowsample_{i}.conv.0.{p}", "down.stages.{i+1}.downsample.project.{p}"),
    *_stage("conv", "down.stages.4"),
    ("upsample_{i}.deconv.0.{p}", "up.{i}.upsample.{p}"),
    *_stage("decoderlayer_{i}", "up.{i}"),
    ("output_proj.proj.0.{p}", "head.conv.{p}"),
    prefixes=("module.",),  # files of the authors were written by several GPUs
    ignore=("*.relative_position_index",),
)
SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {
        "Uformer_T": "uformer_t",
        "Uformer_S": "uformer_s",
        "Uformer_S_noshift": "uformer_s_noshift",
        "Uformer_B": "uformer_b",
        "Uformer_B_fastleff": "uformer_b",  # the same parameters; a faster kernel of theirs
    }
}
