"""How the authors name SegFormer3D's parameters."""

from __future__ import annotations

from anyformer.weights.mapping import table

THEIRS, OURS = "segformer_encoder.tf_block{i}.{j}.", "backbone.stages.{i-1}.blocks.{j}."
OFFICIAL = table(
    ("segformer_encoder.embed_1.patch_embeddings.{p}", "backbone.embed.project.{p}"),
    ("segformer_encoder.embed_1.norm.{p}", "backbone.embed.norm.{p}"),
    ("segformer_encoder.embed_{i}.patch_embeddings.{p}", "backbone.stages.{i-1}.downsample.project.{p}"),
    ("segformer_encoder.embed_{i}.norm.{p}", "backbone.stages.{i-1}.downsample.norm_after.{p}"),
    (THEIRS + "norm{k}.{p}", OURS + "norm{k}.{p}"),
    (THEIRS + "attention.query.{p}", OURS + "mixer.q.{p}"),
    (THEIRS + "attention.key_value.{p}", OURS + "mixer.kv.{p}"),
    (THEIRS + "attention.proj.{p}", OURS + "mixer.out.{p}"),
    (THEIRS + "attention.sr.{p}", OURS + "mixer.reduce.{p}"),
    (THEIRS + "attention.sr_norm.{p}", OURS + "mixer.norm.{p}"),
    (THEIRS + "mlp.fc1.{p}", OURS + "ffn.up.{p}"),
    (THEIRS + "mlp.dwconv.dwconv.{p}", OURS + "ffn.depthwise.{p}"),
    (THEIRS + "mlp.dwconv.bn.{p}", OURS + "ffn.norm.{p}"),
    (THEIRS + "mlp.fc2.{p}", OURS + "ffn.down.{p}"),
    ("segformer_encoder.norm{i}.{p}", "backbone.stages.{i-1}.norm.{p}"),
    ("segformer_decoder.linear_c{i}.proj.{p}", "head.levels.{i-1}.{p}"),
    ("segformer_decoder.linear_c{i}.bn.{p}", "head.level_norms.{i-1}.{p}"),
    ("segformer_decoder.linear_fuse.0.{p}", "head.fuse.{p}"),
    ("segformer_decoder.linear_fuse.1.{p}", "head.norm.{p}"),
    ("segformer_decoder.linear_pred.{p}", "head.classify.{p}"),
    prefixes=("module.",),  # files of the authors were written by several GPUs
)
SOURCES = {"official": OFFICIAL}
NAMES = {"official": {"SegFormer3D": "segformer3d"}}
