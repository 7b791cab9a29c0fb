"""How timm, transformers and the authors name ConvNeXt's parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.core.spec import Spec
from anyformer.weights.mapping import table

TIMM = table(
    ("stem.0.{p}", "embed.project.{p}"),
    ("stem.1.{p}", "embed.norm.{p}"),
    ("stages.{i}.downsample.0.{p}", "stages.{i}.downsample.norm_before.{p}"),
    ("stages.{i}.downsample.1.{p}", "stages.{i}.downsample.project.{p}"),
    ("stages.{i}.blocks.{j}.gamma", "stages.{i}.blocks.{j}.residual.weight"),
    ("stages.{i}.blocks.{j}.conv_dw.{p}", "stages.{i}.blocks.{j}.mixer.{p}"),
    ("stages.{i}.blocks.{j}.norm.{p}", "stages.{i}.blocks.{j}.norm.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("stages.{i}.blocks.{j}.mlp.fc2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    ("norm_pre.{p}", "norm.{p}"),
    ("head.norm.{p}", "head.norm.{p}"),
    ("head.pre_logits.fc.{p}", "head.hidden.{p}"),
    ("head.fc.{p}", "head.linear.{p}"),
)

TRANSFORMERS = table(
    ("embeddings.patch_embeddings.{p}", "embed.project.{p}"),
    ("embeddings.layernorm.{p}", "embed.norm.{p}"),
    ("encoder.stages.{i}.downsampling_layer.0.{p}", "stages.{i}.downsample.norm_before.{p}"),
    ("encoder.stages.{i}.downsampling_layer.1.{p}", "stages.{i}.downsample.project.{p}"),
    ("encoder.stages.{i}.layers.{j}.layer_scale_parameter", "stages.{i}.blocks.{j}.residual.weight"),
    ("encoder.stages.{i}.layers.{j}.dwconv.{p}", "stages.{i}.blocks.{j}.mixer.{p}"),
    ("encoder.stages.{i}.layers.{j}.layernorm.{p}", "stages.{i}.blocks.{j}.norm.{p}"),
    ("encoder.stages.{i}.layers.{j}.pwconv1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("encoder.stages.{i}.layers.{j}.pwconv2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    ("layernorm.{p}", "head.norm.{p}"),
    ("classifier.{p}", "head.linear.{p}"),
    prefixes=("convnext.",),
)

OFFICIAL = table(
    ("downsample_layers.0.0.{p}", "embed.project.{p}"),
    ("downsample_layers.0.1.{p}", "embed.norm.{p}"),
    ("downsample_layers.{i}.0.{p}", "stages.{i}.downsample.norm_before.{p}"),
    ("downsample_layers.{i}.1.{p}", "stages.{i}.downsample.project.{p}"),
    ("stages.{i}.{j}.gamma", "stages.{i}.blocks.{j}.residual.weight"),
    ("stages.{i}.{j}.dwconv.{p}", "stages.{i}.blocks.{j}.mixer.{p}"),
    ("stages.{i}.{j}.norm.{p}", "stages.{i}.blocks.{j}.norm.{p}"),
    ("stages.{i}.{j}.pwconv1.{p}", "stages.{i}.blocks.{j}.ffn.up.{p}"),
    ("stages.{i}.{j}.pwconv2.{p}", "stages.{i}.blocks.{j}.ffn.down.{p}"),
    # The isotropic ones.
    ("stem.{p}", "embed.project.{p}"),
    ("blocks.{j}.dwconv.{p}", "blocks.{j}.mixer.{p}"),
    ("blocks.{j}.norm.{p}", "blocks.{j}.norm.{p}"),
    ("blocks.{j}.pwconv1.{p}", "blocks.{j}.ffn.up.{p}"),
    ("blocks.{j}.pwconv2.{p}", "blocks.{j}.ffn.down.{p}"),
    ("norm.{p}", "head.norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)

SOURCES = {"timm": TIMM, "transformers": TRANSFORMERS, "official": OFFICIAL}

PUBLISHED = ("tiny", "small", "base", "large", "xlarge")
LARGER, ALL_22K = {"image_size": 384}, {"num_classes": 21841}
# transformers' last norm has another epsilon than its other norms.
LAST_NORM = {"head.norm.eps": 1e-12}

TIMM_NAMES: dict[str, Any] = {
    f"convnext_{size}": f"convnext_{size}"
    for size in ("atto", "femto", "pico", "nano", *PUBLISHED, "xxlarge", "atto_rms", "zepto_rms", "large_mlp")
}
TIMM_NAMES["convnext_tiny_hnf"] = (
    "convnext_tiny",
    {".norm": Spec("layernorm", eps=1e-6), "head": Spec("classifier")},
)
# Names of earlier releases.
TIMM_NAMES |= {f"convnext_{size}_in22ft1k": f"convnext_{size}" for size in PUBLISHED}
TIMM_NAMES |= {f"convnext_{size}_384_in22ft1k": (f"convnext_{size}", LARGER) for size in PUBLISHED}
TIMM_NAMES |= {f"convnext_{size}_in22k": (f"convnext_{size}", ALL_22K) for size in PUBLISHED}

# What follows the size in a name of transformers, for which sizes, and what it means.
TRANSFORMERS_ENDS = (
    ("224", ("tiny", "small", "base", "large"), {}),
    ("384", ("base", "large"), LARGER),
    ("224-22k", ("base", "large", "xlarge"), ALL_22K),
    ("224-22k-1k", ("base", "large", "xlarge"), {}),
    ("384-22k-1k", ("base", "large", "xlarge"), LARGER),
)
NAMES = {
    "timm": TIMM_NAMES,
    "transformers": {
        f"facebook/convnext-{size}-{end}": (f"convnext_{size}", LAST_NORM | options)
        for end, sizes, options in TRANSFORMERS_ENDS
        for size in sizes
    },
    "official": {f"convnext_{size}": f"convnext_{size}" for size in PUBLISHED}
    | {f"convnext_isotropic_{size}": f"convnext_isotropic_{size}" for size in ("small", "base", "large")},
}
