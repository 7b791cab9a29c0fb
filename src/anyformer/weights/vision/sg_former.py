"""How the authors name SG-Former's parameters and variants."""

from __future__ import annotations

from typing import Any

from anyformer.weights.mapping import Rule, Table, table

SHARED = (
    ("norm{k}.{p}", "norm{k}.{p}"),
    ("attn.f{k}.{p}", "mixer.merges.{k-1}.{p}"),
    ("attn.sr.{p}", "mixer.reduce.{p}"),
    ("attn.norm.{p}", "mixer.norm.{p}"),
    ("attn.lepe_linear.{p}", "mixer.position.{p}"),
    ("attn.lepe_conv.{p}", "mixer.local.{p}"),
    ("attn.proj.{p}", "mixer.out.{p}"),
    ("mlp.fc1.{p}", "ffn.up.{p}"),
    ("mlp.dwconv.dwconv.{p}", "ffn.depthwise.{p}"),
    ("mlp.fc2.{p}", "ffn.down.{p}"),
)
FIRST = (
    (("attn.q1.{p}", "attn.q2.{p}"), "mixer.q.{p}"),
    ("attn.kv1.{p}", "mixer.kv_whole.{p}"),
    ("attn.kv2.{p}", "mixer.kv_window.{p}"),
)
SECOND = (
    ("attn.q.{p}", "mixer.q.{p}"),
    ("attn.kv1.{p}", "mixer.kv_rows.{p}"),
    ("attn.kv2.{p}", "mixer.kv_columns.{p}"),
)
LAST = ((("attn.q.{p}", "attn.kv.{p}"), "mixer.qkv.{p}"),)
CONVS = {1: "widen", 2: "depthwise", 3: "mix"}


def placed(rules: tuple, theirs: str, ours: str) -> list[Rule]:
    """The rules of a block that stands in this place."""
    return [Rule(theirs + a if isinstance(a, str) else tuple(theirs + one for one in a), ours + b) for a, b in rules]


def official(model: Any) -> Table:
    """Blocks of a stage are in a row there, and every two of them a pair here."""
    rules = []
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage.blocks):
            if hasattr(block, "second"):
                for half, own, number in (("", FIRST, 2 * j), ("second.", SECOND, 2 * j + 1)):
                    rules += placed((*own, *SHARED), f"block{i + 1}.{number}.", f"stages.{i}.blocks.{j}.{half}")
            else:
                rules += placed((*LAST, *SHARED), f"block{i + 1}.{j}.", f"stages.{i}.blocks.{j}.")
    return table(
        *rules,
        ("pos_embed", "stages.0.position.table"),
        *(
            rule
            for n in range(3)
            for rule in (
                (f"patch_embed1.conv.{2 * n}.c.{{p}}", f"embed.convs.{n}.{{p}}"),
                (f"patch_embed1.conv.{2 * n}.bn.{{p}}", f"embed.norms.{n}.{{p}}"),
            )
        ),
        ("patch_embed1.norm.{p}", "embed.token_norm.{p}"),
        *(
            rule
            for n, name in CONVS.items()
            for rule in (
                (f"patch_embed{{i}}.conv{n}.c.{{p}}", f"stages.{{i-1}}.downsample.{name}.{{p}}"),
                (f"patch_embed{{i}}.conv{n}.bn.{{p}}", f"stages.{{i-1}}.downsample.{name}_norm.{{p}}"),
            )
        ),
        ("norm{i}.{p}", "stages.{i-1}.norm.{p}"),
        ("head.{p}", "head.linear.{p}"),
    )


SOURCES = {"official": official}
NAMES = {
    "official": {
        "sgformer_s": "sg_former_small",
        "sgformer_m": "sg_former_medium",
        "sgformer_b": "sg_former_base",
    }
}
