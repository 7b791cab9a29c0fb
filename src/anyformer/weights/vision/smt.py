"""How the authors name SMT's parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.core.spec import Spec
from anyformer.weights.mapping import table

THEIRS, OURS = "block{i}.{j}.", "stages.{i-1}.blocks.{j}."
OFFICIAL = table(
    ("patch_embed1.conv.0.{p}", "embed.convs.0.{p}"),
    ("patch_embed1.conv.1.{p}", "embed.norms.0.{p}"),
    ("patch_embed1.conv.3.{p}", "embed.convs.1.{p}"),
    ("patch_embed1.norm.{p}", "embed.norms.1.{p}"),
    ("patch_embed{i}.proj.{p}", "stages.{i-1}.downsample.project.{p}"),
    ("patch_embed{i}.norm.{p}", "stages.{i-1}.downsample.norm_after.{p}"),
    (THEIRS + "attn.s.{p}", OURS + "mixer.s.{p}"),
    (THEIRS + "attn.v.{p}", OURS + "mixer.v.{p}"),
    (THEIRS + "attn.local_conv_{k}.{p}", OURS + "mixer.mixed.convs.{k-1}.{p}"),
    (THEIRS + "attn.proj0.{p}", OURS + "mixer.group.{p}"),
    (THEIRS + "attn.bn.{p}", OURS + "mixer.norm.{p}"),
    (THEIRS + "attn.proj1.{p}", OURS + "mixer.mix.{p}"),
    ((THEIRS + "attn.q.{p}", THEIRS + "attn.kv.{p}"), OURS + "mixer.qkv.{p}"),
    (THEIRS + "attn.local_conv.{p}", OURS + "mixer.local.{p}"),
    (THEIRS + "attn.proj.{p}", OURS + "mixer.out.{p}"),
    (THEIRS + "mlp.fc1.{p}", OURS + "ffn.up.{p}"),
    (THEIRS + "mlp.dwconv.dwconv.{p}", OURS + "ffn.depthwise.{p}"),
    (THEIRS + "mlp.fc2.{p}", OURS + "ffn.down.{p}"),
    (THEIRS + "norm{k}.{p}", OURS + "norm{k}.{p}"),
    (THEIRS + "gamma_{k}", OURS + "residual{k}.weight"),
    ("norm{i}.{p}", "stages.{i-1}.norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
)
SOURCES = {"official": OFFICIAL}

# The largest was trained on more images and classes, with scaled branches.
SCALED: dict[str, Any] = {"residual": Spec("layer_scale", init=1e-4)}
NAMES = {
    "official": {
        "smt_t": "smt_tiny",
        "smt_s": "smt_small",
        "smt_b": "smt_base",
        "smt_l": "smt_large",
        # The authors' configurations.
        "smt_tiny_224": "smt_tiny",
        "smt_small_224": "smt_small",
        "smt_base_224": "smt_base",
        "smt_large_224": ("smt_large", SCALED),
        "smt_large_224_22k": ("smt_large", SCALED | {"num_classes": 21841}),
        "smt_large_224_22kto1k_finetune": ("smt_large", SCALED),
        "smt_large_384_22kto1k_finetune": ("smt_large", SCALED | {"image_size": 384}),
    }
}
