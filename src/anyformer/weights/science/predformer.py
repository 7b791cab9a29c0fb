"""How the authors of PredFormer name its parameters and variants; their names of blocks depend on the layout."""

from __future__ import annotations

from torch import Tensor

from anyformer.models.science.predformer import VARIANTS, PredFormer
from anyformer.weights.mapping import Change, Table, table

# Their names of the gated transformers of a layer, by the layout's blocks.
INTERLEAVED = {
    "TS": ("ts_temporal_transformer", "ts_space_transformer"),
    "ST": ("st_space_transformer", "st_temporal_transformer"),
    "TST": ("temporal_transformer_first", "space_transformer", "temporal_transformer_second"),
    "STS": ("space_transformer_first", "temporal_transformer", "space_transformer_second"),
    "TSST": (
        "ts_temporal_transformer",
        "ts_space_transformer",
        "st_space_transformer",
        "st_temporal_transformer",
    ),
    "STTS": (
        "st_space_transformer",
        "st_temporal_transformer",
        "ts_temporal_transformer",
        "ts_space_transformer",
    ),
}
ENCODERS = {"S": "space_transformer", "T": "temporal_transformer", "A": "space_temporal_transformer"}
KINDS = {"space_attention": "S", "time_attention": "T", "attention": "A"}


def gated(theirs: str, first: int, depth: int) -> list[tuple]:
    """Rules of one gated transformer, which is our blocks `first` to `first + depth - 1`."""
    rules: list[tuple] = []
    for j in range(depth):
        layer, block = f"{theirs}.layers.{j}", f"blocks.{first + j}"
        # Attention in space and attention in time hold an attention; attention among all tokens is one.
        rules += [
            (f"{layer}.0.norm.{{p}}", f"{block}.norm1.{{p}}"),
            (f"{layer}.0.fn.to_qkv.weight", f"{block}.mixer.qkv.weight"),
            (f"{layer}.0.fn.to_out.0.{{p}}", f"{block}.mixer.out.{{p}}"),
            (f"{layer}.1.norm.{{p}}", f"{block}.norm2.{{p}}"),
            ((f"{layer}.1.fn.fc1_g.{{p}}", f"{layer}.1.fn.fc1_x.{{p}}"), f"{block}.ffn.gate_up.{{p}}"),
            (f"{layer}.1.fn.fc2.{{p}}", f"{block}.ffn.down.{{p}}"),
        ]
    return [*rules, (f"{theirs}.norm.{{p}}", f"blocks.{first + depth - 1}.closing.{{p}}")]


def channels_before_places(channels: int, size: int) -> Change:
    """From a linear layer over patches with the channels last to a convolution."""

    def change(weight: Tensor) -> Tensor:
        return weight.unflatten(1, (size, size, channels)).permute(0, 3, 1, 2)

    return change


def official(model: PredFormer) -> Table:
    """The authors' names for a model of this layout."""
    kinds = "".join(KINDS[block.mixer.name] for block in model.blocks)
    rules: list[tuple] = []
    if all(hasattr(block, "closing") for block in model.blocks):
        layer = next(order for order in sorted(INTERLEAVED, key=len) if order * (len(kinds) // len(order)) == kinds)
        for i in range(len(kinds)):
            name = INTERLEAVED[layer][i % len(layer)]
            rules += gated(f"blocks.{i // len(layer)}.{name}", i, 1)
    else:
        encoders = sorted(set(kinds), key=kinds.index)
        for kind in encoders:
            rules += gated(ENCODERS[kind], kinds.index(kind), kinds.count(kind))
    inside = [(t, o.replace(".mixer.", ".mixer.attention.") if "A" not in kinds else o) for t, o in rules]
    return table(
        (
            "to_patch_embedding.1.weight",
            "embed.project.weight",
            channels_before_places(model.in_channels, model.embed.stride),
        ),
        ("to_patch_embedding.1.bias", "embed.project.bias"),
        *inside,
        ("mlp_head.0.{p}", "norm.{p}"),
        ("mlp_head.1.{p}", "head.{p}"),
        ignore=("pos_embedding",),
    )


SOURCES = {"official": official}
NAMES = {"official": {name: name for name in VARIANTS if name != "predformer_micro"}}
