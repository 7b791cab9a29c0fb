"""How timm and the authors name the parameters and variants of the MetaFormer baselines."""

from __future__ import annotations

from anyformer.weights.mapping import table
from anyformer.weights.vision.metaformer import TIMM

OFFICIAL = table(
    ("downsample_layers.0.conv.{p}", "embed.project.{p}"),
    ("downsample_layers.0.post_norm.{p}", "embed.norm.{p}"),
    ("downsample_layers.{i}.pre_norm.{p}", "stages.{i}.downsample.norm_before.{p}"),
    ("downsample_layers.{i}.conv.{p}", "stages.{i}.downsample.project.{p}"),
    ("stages.{i}.{j}.norm{k}.{p}", "stages.{i}.blocks.{j}.norm{k}.{p}"),
    ("stages.{i}.{j}.res_scale{k}.scale", "stages.{i}.blocks.{j}.residual{k}.weight"),
    ("stages.{i}.{j}.token_mixer.random_matrix", "stages.{i}.blocks.{j}.mixer.matrix"),
    ("stages.{i}.{j}.token_mixer.pwconv1.{p}", "stages.{i}.blocks.{j}.mixer.up.{p}"),
    ("stages.{i}.{j}.token_mixer.act1.{p}", "stages.{i}.blocks.{j}.mixer.act.{p}"),
    ("stages.{i}.{j}.token_mixer.dwconv.{p}", "stages.{i}.blocks.{j}.mixer.depthwise.{p}"),
    ("stages.{i}.{j}.token_mixer.pwconv2.{p}", "stages.{i}.blocks.{j}.mixer.down.{p}"),
    ("stages.{i}.{j}.token_mixer.qkv.{p}", "stages.{i}.blocks.{j}.mixer.qkv.{p}"),
    ("stages.{i}.{j}.token_mixer.proj.{p}", "stages.{i}.blocks.{j}.mixer.out.{p}"),
    ("stages.{i}.{j}.mlp.fc1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("stages.{i}.{j}.mlp.act.{p}", "stages.{i}.blocks.{j}.ffn.act.{p}"),
    ("stages.{i}.{j}.mlp.fc2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    ("norm.{p}", "head.norm.{p}"),
    ("head.fc1.{p}", "head.hidden.{p}"),
    ("head.norm.{p}", "head.hidden_norm.{p}"),
    ("head.fc2.{p}", "head.linear.{p}"),
    ("head.{p}", "head.linear.{p}"),
)

SOURCES = {"timm": TIMM, "official": OFFICIAL}

PLAIN = [
    f"{name}_{size}"
    for name in ("identityformer", "randformer", "poolformerv2")
    for size in ("s12", "s24", "s36", "m36", "m48")
]
STRONG = [f"{name}_{size}" for name in ("convformer", "caformer") for size in ("s18", "s36", "m36", "b36")]
# The authors' names say on what a model was trained, and at what size.
TRAINED = {
    "": {},
    "_384": {"image_size": 384},
    "_in21ft1k": {},
    "_384_in21ft1k": {"image_size": 384},
    "_in21k": {"num_classes": 21841},
}
NAMES = {
    # timm's inner norm of the head has another epsilon than the authors'.
    "timm": {name: name for name in PLAIN if name.startswith("poolformerv2")}
    | {name: (name, {"head.hidden_norm.eps": 1e-6}) for name in STRONG},
    "official": {name: name for name in PLAIN}
    | {name + end: (name, options) for name in STRONG for end, options in TRAINED.items()}
    # Spelt so by the authors' factory.
    | {"caformer_m364_in21k": ("caformer_m36", {"num_classes": 21841})},
}
