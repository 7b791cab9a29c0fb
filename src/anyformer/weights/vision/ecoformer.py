"""How the authors name EcoFormer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table


def block(theirs: str, ours: str) -> list[tuple[str, str]]:
    """The rules of a block."""
    code = "attn.fast_attention.ksh."
    names = {
        code + "A": "mixer.hash.coefficients",
        code + "mvec": "mixer.hash.mean",
        code + "anchor": "mixer.hash.anchors",
        "attn.to_qk.{p}": "mixer.qk.{p}",
        "attn.to_v.{p}": "mixer.v.{p}",
        "attn.qkv.{p}": "mixer.qkv.{p}",
        "attn.proj.{p}": "mixer.out.{p}",
        "norm{k}.{p}": "norm{k}.{p}",
        "mlp.fc1.{p}": "ffn.up.{p}",
        "mlp.dwconv.dwconv.{p}": "ffn.depthwise.{p}",
        "mlp.fc2.{p}": "ffn.down.{p}",
    }
    return [(theirs + a, ours + b) for a, b in names.items()]


OFFICIAL = table(
    # PVT v2's.
    ("patch_embed1.proj.{p}", "embed.project.{p}"),
    ("patch_embed1.norm.{p}", "embed.norm.{p}"),
    ("patch_embed{i}.proj.{p}", "stages.{i-1}.downsample.project.{p}"),
    ("patch_embed{i}.norm.{p}", "stages.{i-1}.downsample.norm_after.{p}"),
    *block("block{i}.{j}.", "stages.{i-1}.blocks.{j}."),
    ("norm{i}.{p}", "stages.{i-1}.norm.{p}"),
    # Twins'.
    ("patch_embeds.0.proj.{p}", "embed.project.{p}"),
    ("patch_embeds.0.norm.{p}", "embed.norm.{p}"),
    ("patch_embeds.{i}.proj.{p}", "stages.{i}.downsample.project.{p}"),
    ("patch_embeds.{i}.norm.{p}", "stages.{i}.downsample.norm_after.{p}"),
    ("pos_block.{i}.proj.0.{p}", "stages.{i}.blocks.1.position.{p}"),
    *block("blocks.{i}.{j}.", "stages.{i}.blocks.{j}."),
    ("norm.{p}", "norm.{p}"),
    ("head.{p}", "head.linear.{p}"),
    ignore=("*.fast_attention.projection_matrix",),  # of the random features that the authors compare with
)
SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {f"pvtv2_b{i}_ecoformer": f"ecoformer_pvt_v2_b{i}" for i in range(5)}
    | {f"pvt_v2_b{i}_ecoformer": f"ecoformer_pvt_v2_b{i}" for i in range(5)}
    | dict.fromkeys(("twins_svt_s_ecoformer", "alt_gvt_small_ecoformer"), "ecoformer_twins_svt_s")
}
