"""How timm, transformers and the authors name Hiera's parameters and variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anyformer.weights.mapping import Table, table

Pairs = Sequence[tuple[str, str]]
BLOCK: Pairs = (  # inside a block; theirs, ours
    ("norm1", "norm1"),
    ("norm2", "norm2"),
    ("attn.qkv", "mixer.qkv"),
    ("attn.proj", "mixer.out"),
    ("mlp.fc1", "ffn.up"),
    ("mlp.fc2", "ffn.down"),
    ("proj", "project"),
)


def block(theirs: str, ours: str, names: Pairs = BLOCK) -> list[tuple[str, str]]:
    """The rules of one block, or of a pattern of blocks."""
    scales = [(f"{theirs}ls{{k}}.gamma", f"{ours}residual{{k}}.weight")]
    return [(f"{theirs}{a}.{{p}}", f"{ours}{b}.{{p}}") for a, b in names] + scales


def in_a_row(names: Table) -> Callable[[nn.Module], Table]:
    """timm and the authors number all blocks in a row; ours that open a stage are its `downsample`."""

    def of(model: nn.Module) -> Table:
        rules, number = [], 0
        for i, stage in enumerate(model.stages):  # type: ignore[arg-type]
            places = ["downsample."] if stage.downsample is not None else []
            for place in places + [f"blocks.{j}." for j in range(len(stage.blocks))]:
                rules += block(f"blocks.{number}.", f"stages.{i}.{place}")
                number += 1
        return table(*rules, parent=names)

    return of


def as_rows(positions: Tensor) -> Tensor:
    """Positions as rows `(n, c)`, without their axis of one sample."""
    return positions.flatten(0, -2)


def positions(state_name: str) -> tuple:
    """The learned positions of all tokens."""
    return (state_name, "stages.0.position.table", as_rows)


ENDS = (("patch_embed.proj.{p}", "embed.project.{p}"),)
TIMM = table(*ENDS, positions("pos_embed"), ("head.norm.{p}", "head.norm.{p}"), ("head.fc.{p}", "head.linear.{p}"))
# The "abswin" variants have two tables of positions, as maps.
TIMM_WINDOWS = table(
    *ENDS,
    ("pos_embed", "stages.0.position.image", torch.squeeze),
    ("pos_embed_win", "stages.0.position.inside", torch.squeeze),
    parent=TIMM,
)
OFFICIAL = table(
    *ENDS, positions("pos_embed"), ("norm.{p}", "head.norm.{p}"), ("head.projection.{p}", "head.linear.{p}")
)
LAYER: Pairs = [({"norm1": "layernorm_before", "norm2": "layernorm_after"}.get(a, a), b) for a, b in BLOCK]
STAGE = "encoder.stages.{i}.layers."
TRANSFORMERS = table(
    ("embeddings.patch_embeddings.projection.{p}", "embed.project.{p}"),
    positions("embeddings.position_embeddings"),
    *block("encoder.stages.0.layers.{j}.", "stages.0.blocks.{j}.", LAYER),
    *block(STAGE + "0.", "stages.{i}.downsample.", LAYER),
    *block(STAGE + "{j}.", "stages.{i}.blocks.{j-1}.", LAYER),
    ("pooler.layernorm.{p}", "head.norm.{p}"),
    ("classifier.{p}", "head.linear.{p}"),
    prefixes=("hiera.",),
)


def timm(model: nn.Module) -> Table:
    """timm's names of this model."""
    windows = hasattr(model.stages[0].position, "inside")  # type: ignore[index]
    return in_a_row(TIMM_WINDOWS if windows else TIMM)(model)


SOURCES = {"timm": timm, "transformers": TRANSFORMERS, "official": in_a_row(OFFICIAL)}

SIZES = ("tiny", "small", "base", "base_plus", "large", "huge")
BARE, IN12K = {"num_classes": 0}, {"num_classes": 11821}
NAMES = {
    "timm": {f"hiera_{size}_224": f"hiera_{size}" for size in SIZES}
    | {f"hiera_{size}_224.mae": (f"hiera_{size}", BARE) for size in SIZES}
    | {f"hiera_{size}_abswin_256": f"hiera_{size}_abswin" for size in ("small", "base")}
    | {f"hiera_small_abswin_256.sbb2{kind}_e200_in12k": ("hiera_small_abswin", IN12K) for kind in ("", "_pd")},
    "transformers": {f"facebook/hiera-{size.replace('_', '-')}-224-in1k-hf": f"hiera_{size}" for size in SIZES},
    "official": {f"hiera_{size}_224": f"hiera_{size}" for size in SIZES},
}
