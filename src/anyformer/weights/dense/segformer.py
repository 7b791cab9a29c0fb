"""How transformers and the authors name SegFormer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

STAGE, BLOCK = "backbone.stages.{i}.", "backbone.stages.{i}.blocks.{j}."

# Two generations: files on the hub have the names with "encoder", transformers 5 has the others in memory.
TRANSFORMERS = table(
    ("stages.0.patch_embeddings.proj.{p}", "backbone.embed.project.{p}"),
    ("stages.0.patch_embeddings.layer_norm.{p}", "backbone.embed.norm.{p}"),
    ("stages.{i}.patch_embeddings.proj.{p}", STAGE + "downsample.project.{p}"),
    ("stages.{i}.patch_embeddings.layer_norm.{p}", STAGE + "downsample.norm_after.{p}"),
    ("stages.{i}.blocks.{j}.layernorm_before.{p}", BLOCK + "norm1.{p}"),
    ("stages.{i}.blocks.{j}.layernorm_after.{p}", BLOCK + "norm2.{p}"),
    ("stages.{i}.blocks.{j}.attention.q_proj.{p}", BLOCK + "mixer.q.{p}"),
    (tuple(f"stages.{{i}}.blocks.{{j}}.attention.{n}_proj.{{p}}" for n in "kv"), BLOCK + "mixer.kv.{p}"),
    ("stages.{i}.blocks.{j}.attention.o_proj.{p}", BLOCK + "mixer.out.{p}"),
    ("stages.{i}.blocks.{j}.attention.sequence_reduction.sequence_reduction.{p}", BLOCK + "mixer.reduce.{p}"),
    ("stages.{i}.blocks.{j}.attention.sequence_reduction.layer_norm.{p}", BLOCK + "mixer.norm.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc1.{p}", BLOCK + "ffn.up.{p}"),
    ("stages.{i}.blocks.{j}.mlp.dwconv.dwconv.{p}", BLOCK + "ffn.depthwise.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc2.{p}", BLOCK + "ffn.down.{p}"),
    ("stages.{i}.layer_norm.{p}", STAGE + "norm.{p}"),
    ("encoder.patch_embeddings.0.proj.{p}", "backbone.embed.project.{p}"),
    ("encoder.patch_embeddings.0.layer_norm.{p}", "backbone.embed.norm.{p}"),
    ("encoder.patch_embeddings.{i}.proj.{p}", STAGE + "downsample.project.{p}"),
    ("encoder.patch_embeddings.{i}.layer_norm.{p}", STAGE + "downsample.norm_after.{p}"),
    ("encoder.block.{i}.{j}.layer_norm_{k}.{p}", BLOCK + "norm{k}.{p}"),
    ("encoder.block.{i}.{j}.attention.self.query.{p}", BLOCK + "mixer.q.{p}"),
    (tuple(f"encoder.block.{{i}}.{{j}}.attention.self.{n}.{{p}}" for n in ("key", "value")), BLOCK + "mixer.kv.{p}"),
    ("encoder.block.{i}.{j}.attention.self.sr.{p}", BLOCK + "mixer.reduce.{p}"),
    ("encoder.block.{i}.{j}.attention.self.layer_norm.{p}", BLOCK + "mixer.norm.{p}"),
    ("encoder.block.{i}.{j}.attention.output.dense.{p}", BLOCK + "mixer.out.{p}"),
    ("encoder.block.{i}.{j}.mlp.dense1.{p}", BLOCK + "ffn.up.{p}"),
    ("encoder.block.{i}.{j}.mlp.dwconv.dwconv.{p}", BLOCK + "ffn.depthwise.{p}"),
    ("encoder.block.{i}.{j}.mlp.dense2.{p}", BLOCK + "ffn.down.{p}"),
    ("encoder.layer_norm.{i}.{p}", STAGE + "norm.{p}"),
    ("decode_head.linear_projections.{i}.proj.{p}", "head.levels.{i}.{p}"),
    ("decode_head.linear_c.{i}.proj.{p}", "head.levels.{i}.{p}"),
    ("decode_head.linear_fuse.{p}", "head.fuse.{p}"),
    ("decode_head.batch_norm.{p}", "head.norm.{p}"),
    ("decode_head.classifier.{p}", "head.classify.{p}"),
    prefixes=("segformer.",),
)
OFFICIAL = table(
    ("backbone.patch_embed1.proj.{p}", "backbone.embed.project.{p}"),
    ("backbone.patch_embed1.norm.{p}", "backbone.embed.norm.{p}"),
    ("backbone.patch_embed{i}.proj.{p}", "backbone.stages.{i-1}.downsample.project.{p}"),
    ("backbone.patch_embed{i}.norm.{p}", "backbone.stages.{i-1}.downsample.norm_after.{p}"),
    ("backbone.block{i}.{j}.attn.q.{p}", "backbone.stages.{i-1}.blocks.{j}.mixer.q.{p}"),
    ("backbone.block{i}.{j}.attn.kv.{p}", "backbone.stages.{i-1}.blocks.{j}.mixer.kv.{p}"),
    ("backbone.block{i}.{j}.attn.sr.{p}", "backbone.stages.{i-1}.blocks.{j}.mixer.reduce.{p}"),
    ("backbone.block{i}.{j}.attn.norm.{p}", "backbone.stages.{i-1}.blocks.{j}.mixer.norm.{p}"),
    ("backbone.block{i}.{j}.attn.proj.{p}", "backbone.stages.{i-1}.blocks.{j}.mixer.out.{p}"),
    ("backbone.block{i}.{j}.norm{k}.{p}", "backbone.stages.{i-1}.blocks.{j}.norm{k}.{p}"),
    ("backbone.block{i}.{j}.mlp.fc1.{p}", "backbone.stages.{i-1}.blocks.{j}.ffn.up.{p}"),
    ("backbone.block{i}.{j}.mlp.dwconv.dwconv.{p}", "backbone.stages.{i-1}.blocks.{j}.ffn.depthwise.{p}"),
    ("backbone.block{i}.{j}.mlp.fc2.{p}", "backbone.stages.{i-1}.blocks.{j}.ffn.down.{p}"),
    ("backbone.norm{i}.{p}", "backbone.stages.{i-1}.norm.{p}"),
    ("decode_head.linear_c{i}.proj.{p}", "head.levels.{i-1}.{p}"),
    ("decode_head.linear_fuse.conv.{p}", "head.fuse.{p}"),
    ("decode_head.linear_fuse.bn.{p}", "head.norm.{p}"),
    ("decode_head.linear_pred.{p}", "head.classify.{p}"),
    ignore=("decode_head.conv_seg.*",),  # of the class that theirs inherits from; not used
)
SOURCES = {"transformers": TRANSFORMERS, "official": OFFICIAL}

SIZES = ("b0", "b1", "b2", "b3", "b4", "b5")
CITYSCAPES = {"num_classes": 19, "image_size": 1024}
NAMES = {
    "transformers": {
        **{f"nvidia/segformer-{size}-finetuned-ade-512-512": f"segformer_{size}" for size in SIZES[:5]},
        "nvidia/segformer-b5-finetuned-ade-640-640": ("segformer_b5", {"image_size": 640}),
        **{
            f"nvidia/segformer-{size}-finetuned-cityscapes-1024-1024": (f"segformer_{size}", CITYSCAPES)
            for size in SIZES
        },
    },
    "official": {
        **{f"segformer.{size}.512x512.ade.160k": f"segformer_{size}" for size in SIZES[:5]},
        "segformer.b5.640x640.ade.160k": ("segformer_b5", {"image_size": 640}),
        **{f"segformer.{size}.1024x1024.city.160k": (f"segformer_{size}", CITYSCAPES) for size in SIZES},
    },
}
