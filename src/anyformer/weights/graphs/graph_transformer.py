"""How the authors name the Graph Transformer's parameters and variants."""

from __future__ import annotations

from anyformer.weights.mapping import table

_QKV = tuple("layers.{i}.attention." + f"{n}.weight" for n in "QKV")
_NORMS = [
    (f"layers.{{i}}.{kind}_norm{{j}}{theirs}.{{p}}", f"blocks.{{i}}.{ours}norm{{j}}.{{p}}")
    for kind in ("batch", "layer")
    for theirs, ours in (("_h", ""), ("_e", "edge_"), ("", ""))
]

OFFICIAL = table(
    ("embedding_h.weight", "embed.table"),
    ("embedding_e.weight", "edge_embed.table"),
    ("embedding_lap_pos_enc.{p}", "position.linear.{p}"),
    (_QKV, "blocks.{i}.qkv.weight"),
    ("layers.{i}.attention.proj_e.weight", "blocks.{i}.factors.weight"),
    ("layers.{i}.O_h.{p}", "blocks.{i}.out.{p}"),
    ("layers.{i}.O_e.{p}", "blocks.{i}.edge_out.{p}"),
    ("layers.{i}.O.{p}", "blocks.{i}.out.{p}"),
    *_NORMS,
    ("layers.{i}.FFN_h_layer1.{p}", "blocks.{i}.ffn.up.{p}"),
    ("layers.{i}.FFN_h_layer2.{p}", "blocks.{i}.ffn.down.{p}"),
    ("layers.{i}.FFN_e_layer1.{p}", "blocks.{i}.edge_ffn.up.{p}"),
    ("layers.{i}.FFN_e_layer2.{p}", "blocks.{i}.edge_ffn.down.{p}"),
    ("layers.{i}.FFN_layer1.{p}", "blocks.{i}.ffn.up.{p}"),
    ("layers.{i}.FFN_layer2.{p}", "blocks.{i}.ffn.down.{p}"),
    ("MLP_layer.FC_layers.{j}.{p}", "head.linears.{j}.{p}"),
)

SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {
        name: name
        for name in (
            f"graph_transformer_{data}{lap}_{norm}"
            for data in ("zinc", "cluster", "pattern")
            for lap in ("_lap", "")
            for norm in ("bn", "ln")
        )
    }
}
