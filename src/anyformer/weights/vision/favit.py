"""How the authors name FaViT's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

THEIRS, OURS = "block{i}.{j}.", "stages.{i-1}.blocks.{j}."
OFFICIAL = table(
    ("patch_embed1.proj.{p}", "embed.project.{p}"),
    ("patch_embed1.norm.{p}", "embed.norm.{p}"),
    ("patch_embed{i}.proj.{p}", "stages.{i-1}.downsample.project.{p}"),
    ("patch_embed{i}.norm.{p}", "stages.{i-1}.downsample.norm_after.{p}"),
    (THEIRS + "norm{k}.{p}", OURS + "norm{k}.{p}"),
    (THEIRS + "attn.q.{p}", OURS + "mixer.q.{p}"),
    (THEIRS + "attn.sr.{p}", OURS + "mixer.reduce.{p}"),
    (THEIRS + "attn.norm.{p}", OURS + "mixer.norm.{p}"),
    (THEIRS + "attn.kv_g.{p}", OURS + "mixer.kv.{p}"),
    (THEIRS + "attn.local_conv_g.{p}", OURS + "mixer.local.{p}"),
    (THEIRS + "attn.kv_l.depth_conv.{p}", OURS + "mixer.depthwise.{p}"),
    (THEIRS + "attn.kv_l.point_conv.{p}", OURS + "mixer.pointwise.{p}"),
    (THEIRS + "attn.fcs.{k}.{p}", OURS + "mixer.groups.{k}.mix.{p}"),
    (THEIRS + "attn.single_heads.{k}.{p}", OURS + "mixer.groups.{k}.kv.{p}"),
    (THEIRS + "attn.local_convs.{k}.{p}", OURS + "mixer.groups.{k}.local.{p}"),
    (THEIRS + "attn.proj.{p}", OURS + "mixer.out.{p}"),
    (THEIRS + "mlp.fc1.{p}", OURS + "ffn.up.{p}"),
    (THEIRS + "mlp.dwconv.dwconv.{p}", OURS + "ffn.depthwise.{p}"),
    (THEIRS + "mlp.fc2.{p}", OURS + "ffn.down.{p}"),
    ("norm{i}.{p}", "stages.{i-1}.norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {f"favit_b{i}": f"favit_b{i}" for i in range(4)}}
