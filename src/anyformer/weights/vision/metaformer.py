"""How timm, transformers and the authors name PoolFormer's parameters and variants."""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.weights.mapping import Rule, table

TIMM = table(
    ("stem.conv.{p}", "embed.project.{p}"),
    ("stem.norm.{p}", "embed.norm.{p}"),
    ("stages.{i}.downsample.norm.{p}", "stages.{i}.downsample.norm_before.{p}"),
    ("stages.{i}.downsample.conv.{p}", "stages.{i}.downsample.project.{p}"),
    ("stages.{i}.blocks.{j}.norm{k}.{p}", "stages.{i}.blocks.{j}.norm{k}.{p}"),
    ("stages.{i}.blocks.{j}.layer_scale{k}.scale", "stages.{i}.blocks.{j}.residual{k}.weight"),
    ("stages.{i}.blocks.{j}.res_scale{k}.scale", "stages.{i}.blocks.{j}.residual{k}.weight"),
    ("stages.{i}.blocks.{j}.token_mixer.pwconv1.{p}", "stages.{i}.blocks.{j}.mixer.up.{p}"),
    ("stages.{i}.blocks.{j}.token_mixer.act1.{p}", "stages.{i}.blocks.{j}.mixer.act.{p}"),
    ("stages.{i}.blocks.{j}.token_mixer.dwconv.{p}", "stages.{i}.blocks.{j}.mixer.depthwise.{p}"),
    ("stages.{i}.blocks.{j}.token_mixer.pwconv2.{p}", "stages.{i}.blocks.{j}.mixer.down.{p}"),
    ("stages.{i}.blocks.{j}.token_mixer.qkv.{p}", "stages.{i}.blocks.{j}.mixer.qkv.{p}"),
    ("stages.{i}.blocks.{j}.token_mixer.proj.{p}", "stages.{i}.blocks.{j}.mixer.out.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("stages.{i}.blocks.{j}.mlp.act.{p}", "stages.{i}.blocks.{j}.ffn.act.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    ("head.norm.{p}", "head.norm.{p}"),
    ("head.fc.fc1.{p}", "head.hidden.{p}"),
    ("head.fc.norm.{p}", "head.hidden_norm.{p}"),
    ("head.fc.fc2.{p}", "head.linear.{p}"),
    ("head.fc.{p}", "head.linear.{p}"),
)
"""The whole frame of timm's MetaFormer: PoolFormer and the baselines."""

TRANSFORMERS = table(
    ("encoder.patch_embeddings.0.projection.{p}", "embed.project.{p}"),
    ("encoder.patch_embeddings.{i}.projection.{p}", "stages.{i}.downsample.project.{p}"),
    ("encoder.block.{i}.{j}.before_norm.{p}", "stages.{i}.blocks.{j}.norm1.{p}"),
    ("encoder.block.{i}.{j}.after_norm.{p}", "stages.{i}.blocks.{j}.norm2.{p}"),
    ("encoder.block.{i}.{j}.layer_scale_{k}", "stages.{i}.blocks.{j}.residual{k}.weight"),
    ("encoder.block.{i}.{j}.output.conv1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("encoder.block.{i}.{j}.output.conv2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("classifier.{p}", "head.linear.{p}"),
    prefixes=("poolformer.",),
)

# The authors put stages and the downsampling between them into one list.
OFFICIAL = table(
    ("patch_embed.proj.{p}", "embed.project.{p}"),
    *(Rule(f"network.{2 * i - 1}.proj.{{p}}", f"stages.{i}.downsample.project.{{p}}") for i in (1, 2, 3)),
    *(
        Rule(f"network.{2 * i}.{{j}}.{theirs}", f"stages.{i}.blocks.{{j}}.{ours}")
        for i in range(4)
        for theirs, ours in (
            ("norm{k}.{p}", "norm{k}.{p}"),
            ("layer_scale_{k}", "residual{k}.weight"),
            ("mlp.fc1.{p}", "ffn.up.{p}"),
            ("mlp.fc2.{p}", "ffn.down.{p}"),
        )
    ),
    ("norm.{p}", "norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)

SOURCES = {"timm": TIMM, "transformers": TRANSFORMERS, "official": OFFICIAL}

SIZES = ("s12", "s24", "s36", "m36", "m48")
# timm norms the pooled vector, where the paper norms the map and then pools (".norm" is the whole model's last norm).
POOL_FIRST = {".norm": None, "head": Spec("classifier", norm=Spec("layernorm", eps=1e-6))}
NAMES = {
    "timm": {f"poolformer_{size}": (f"poolformer_{size}", POOL_FIRST) for size in SIZES},
    "transformers": {f"sail/poolformer_{size}": f"poolformer_{size}" for size in SIZES},
    "official": {f"poolformer_{size}": f"poolformer_{size}" for size in SIZES},
}
