"""How the authors name FlatFormer's parameters and configurations.

Their detector reads the map from above by a convolutional backbone and CenterPoint's head, which are left out: load
into `create_model("official:flatformer_waymo_D1_2x_3class", num_classes=0)`.
"""

from __future__ import annotations

from anyformer.weights.mapping import split, table

OFFICIAL = table(
    *[
        rule
        for k in range(4)  # a block of theirs is four of ours
        for i in range(8)
        for theirs, ours in [(f"block_list.{i}.block.{k}", f"blocks.{4 * i + k}")]
        for rule in (
            *(
                (
                    f"{theirs}.attn.attn.in_proj_{what}",
                    tuple(f"{ours}.mixer.attention.{n}.{what}" for n in ("query", "key", "value")),
                    split(1, 1, 1),
                )
                for what in ("weight", "bias")
            ),
            (f"{theirs}.attn.attn.out_proj.{{p}}", f"{ours}.mixer.attention.out.{{p}}"),
            (f"{theirs}.fc1.{{p}}", f"{ours}.ffn.up.{{p}}"),
            (f"{theirs}.fc2.{{p}}", f"{ours}.ffn.down.{{p}}"),
            (f"{theirs}.norm{{j}}.{{p}}", f"{ours}.norm{{j}}.{{p}}"),
        )
    ],
    ("voxel_encoder.vfe_layers.{i}.linear.{p}", "encoder.linears.{i}.{p}"),
    ("voxel_encoder.vfe_layers.{i}.norm.{p}", "encoder.norms.{i}.{p}"),
    prefixes=("middle_encoder.",),
    ignore=("backbone.*", "neck.*", "bbox_head.*"),
)

SOURCES = {"official": OFFICIAL}
NAMES = {
    "official": {
        f"flatformer_waymo_{data}_3class{sweeps}": "flatformer_waymo"
        for data, swept in (("D1_2x", ("", "_2f", "_3f")), ("D5_1x", ("", "_3f")))
        for sweeps in swept
    }
}
