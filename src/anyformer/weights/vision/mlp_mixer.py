"""How timm and the authors name MLP-Mixer's parameters and variants."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from anyformer.core.spec import Spec
from anyformer.weights.mapping import table, transpose

TIMM = table(
    ("stem.proj.{p}", "embed.project.{p}"),
    ("blocks.{i}.norm{j}.{p}", "blocks.{i}.norm{j}.{p}"),
    ("blocks.{i}.mlp_tokens.fc1.{p}", "blocks.{i}.mixer.mlp.up.{p}"),
    ("blocks.{i}.mlp_tokens.fc2.{p}", "blocks.{i}.mixer.mlp.down.{p}"),
    ("blocks.{i}.mlp_channels.fc1.{p}", "blocks.{i}.ffn.up.{p}"),
    ("blocks.{i}.mlp_channels.fc2.{p}", "blocks.{i}.ffn.down.{p}"),
    ("norm.{p}", "norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)


def outputs_first(kernel: Tensor) -> Tensor:
    """A filter stored as (height, width, in, out)."""
    return kernel.permute(3, 2, 0, 1)


# The arrays of the authors' .npz files.
OFFICIAL = table(
    ("stem/kernel", "embed.project.weight", outputs_first),
    ("stem/bias", "embed.project.bias"),
    ("MixerBlock_{i}/LayerNorm_{j}/scale", "blocks.{i}.norm{j+1}.weight"),
    ("MixerBlock_{i}/LayerNorm_{j}/bias", "blocks.{i}.norm{j+1}.bias"),
    ("MixerBlock_{i}/token_mixing/Dense_0/kernel", "blocks.{i}.mixer.mlp.up.weight", transpose),
    ("MixerBlock_{i}/token_mixing/Dense_0/bias", "blocks.{i}.mixer.mlp.up.bias"),
    ("MixerBlock_{i}/token_mixing/Dense_1/kernel", "blocks.{i}.mixer.mlp.down.weight", transpose),
    ("MixerBlock_{i}/token_mixing/Dense_1/bias", "blocks.{i}.mixer.mlp.down.bias"),
    ("MixerBlock_{i}/channel_mixing/Dense_0/kernel", "blocks.{i}.ffn.up.weight", transpose),
    ("MixerBlock_{i}/channel_mixing/Dense_0/bias", "blocks.{i}.ffn.up.bias"),
    ("MixerBlock_{i}/channel_mixing/Dense_1/kernel", "blocks.{i}.ffn.down.weight", transpose),
    ("MixerBlock_{i}/channel_mixing/Dense_1/bias", "blocks.{i}.ffn.down.bias"),
    ("pre_head_layer_norm/scale", "norm.weight"),
    ("pre_head_layer_norm/bias", "norm.bias"),
    ("head/kernel", "head.linear.weight", transpose),
    ("head/bias", "head.linear.bias"),
)

SOURCES = {"timm": TIMM, "official": OFFICIAL}

SIZES = ("s32", "s16", "b32", "b16", "l32", "l16")
TIMM_NAMES: dict[str, Any] = {f"mixer_{size}_224": f"mixer_{size}" for size in SIZES}
# Names of earlier releases, and what timm gives for them now.
TIMM_NAMES |= {
    "mixer_b16_224_in21k": "mixer_b16",
    "mixer_l16_224_in21k": "mixer_l16",
    "mixer_b16_224_miil": "mixer_b16",
    "mixer_b16_224_miil_in21k": ("mixer_b16", {"num_classes": 11221}),
}
# The authors' GELU is the tanh approximation.
TANH = {"act": Spec("gelu", approximate="tanh")}
NAMES = {
    "timm": TIMM_NAMES,
    "official": {
        "Mixer-B_16": ("mixer_b16", TANH),
        "Mixer-B_32": ("mixer_b32", TANH),
        "Mixer-L_16": ("mixer_l16", TANH),
    },
}
