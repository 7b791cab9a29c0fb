"""How transformers names PatchTST's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

LAYER, BLOCK = "encoder.layers.{i}", "blocks.{i}"
TRANSFORMERS = table(
    ("encoder.embedder.input_embedding.{p}", "embed.{p}"),
    *(
        ((f"{LAYER}.self_attn.q_proj.{p}", f"{LAYER}.self_attn.k_proj.{p}", f"{LAYER}.self_attn.v_proj.{p}"),
         f"{BLOCK}.mixer.qkv.{p}")
        for p in ("weight", "bias")
    ),
    (f"{LAYER}.self_attn.out_proj.{{p}}", f"{BLOCK}.mixer.out.{{p}}"),
    (f"{LAYER}.norm_sublayer1.batchnorm.{{p}}", f"{BLOCK}.norm1.{{p}}"),
    (f"{LAYER}.norm_sublayer3.batchnorm.{{p}}", f"{BLOCK}.norm2.{{p}}"),
    (f"{LAYER}.ff.0.{{p}}", f"{BLOCK}.ffn.up.{{p}}"),
    (f"{LAYER}.ff.3.{{p}}", f"{BLOCK}.ffn.down.{{p}}"),
    ("head.projection.{p}", "head.{p}"),
    prefixes=("model.",),
    ignore=("encoder.positional_encoder.position_enc",),
)  # fmt: skip
SOURCES = {"transformers": TRANSFORMERS}
NAMES = {"transformers": {"namctin/patchtst_etth1_forecast": "patchtst_etth1_forecast"}}
