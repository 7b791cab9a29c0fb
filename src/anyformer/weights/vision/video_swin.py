"""How the authors and torchvision name Video Swin's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table
from anyformer.weights.vision.swin import OFFICIAL as SWIN

# The authors' files hold the backbone and the head of a recognizer.
OFFICIAL = table(
    ("cls_head.fc_cls.{p}", "head.linear.{p}"),
    prefixes=("backbone.",),
    parent=SWIN,
)


def torchvision_stage(i: int) -> list[tuple[str, str]]:
    """torchvision has one list of stages and mergings in turn: stages are 0, 2, 4, 6 and mergings 1, 3, 5."""
    theirs, ours = f"features.{2 * i}.{{j}}.", f"stages.{i}.blocks.{{j}}."
    merging = [
        (f"features.{2 * i - 1}.norm.{{p}}", f"stages.{i}.downsample.norm.{{p}}"),
        (f"features.{2 * i - 1}.reduction.{{p}}", f"stages.{i}.downsample.project.{{p}}"),
    ]
    return [
        (theirs + "attn.relative_position_bias_table", ours + "mixer.bias.table"),
        (theirs + "attn.qkv.{p}", ours + "mixer.qkv.{p}"),
        (theirs + "attn.proj.{p}", ours + "mixer.out.{p}"),
        (theirs + "norm{k}.{p}", ours + "norm{k}.{p}"),
        (theirs + "mlp.0.{p}", ours + "ffn.up.{p}"),
        (theirs + "mlp.3.{p}", ours + "ffn.down.{p}"),
        *(merging if i else []),
    ]


TORCHVISION = table(
    ("patch_embed.proj.{p}", "embed.project.{p}"),
    ("patch_embed.norm.{p}", "embed.norm.{p}"),
    *(rule for i in range(4) for rule in torchvision_stage(i)),
    ("norm.{p}", "norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
    ignore=("*.relative_position_index",),
)
SOURCES = {"official": OFFICIAL, "torchvision": TORCHVISION}
NAMES = {
    "official": {
        "swin_tiny_patch244_window877_kinetics400_1k": "video_swin_tiny",
        "swin_small_patch244_window877_kinetics400_1k": "video_swin_small",
        "swin_base_patch244_window877_kinetics400_1k": "video_swin_base",
        "swin_base_patch244_window877_kinetics400_22k": "video_swin_base",
        "swin_base_patch244_window877_kinetics600_22k": ("video_swin_base", {"num_classes": 600}),
        "swin_base_patch244_window1677_sthv2": ("video_swin_base_window16", {"num_classes": 174}),
        "swin_large_patch244_window877_kinetics400_22k": "video_swin_large",
    },
    "torchvision": {"swin3d_t": "video_swin_tiny", "swin3d_s": "video_swin_small", "swin3d_b": "video_swin_base"},
}
