"""How timm and the authors name TNT's parameters and variants."""

from __future__ import annotations

from torch import Tensor

from anyformer.models.vision.tnt import VARIANTS
from anyformer.weights.mapping import Table, table

BLOCK = "blocks.{i}."


def rows(positions: Tensor) -> Tensor:
    """Positions of words as rows: from a map `(1, c, h, w)` (timm) or a sequence `(1, n, c)` (the authors)."""
    return positions[0].flatten(1).t() if positions.dim() == 4 else positions[0]


def names(
    *, word_position: str, position: str, embed: str, norms: tuple[str, str], words: tuple[str, ...],
    sentences: tuple[str, ...], legacy: bool = False,
) -> Table:  # fmt: skip
    """The table; `words` and `sentences` are the names of norm, attention, norm and MLP in both blocks."""
    before, after = norms
    rules: list[tuple] = [
        ("cls_token", "prefix"),
        (word_position, "word_position.table", rows),
        (position, "position.table"),
        (embed + ".proj.{p}", "embed.project.{p}"),
        (before + ".{p}", "fold.norm_before.{p}"),
        ("proj.{p}", "fold.project.{p}"),
        (after + ".{p}", "fold.norm_after.{p}"),
        (BLOCK + before + ".{p}", BLOCK + ("fold.word_norm.{p}" if legacy else "fold.norm_before.{p}")),
        (BLOCK + "proj.{p}", BLOCK + "fold.project.{p}"),
        (BLOCK + after + ".{p}", BLOCK + "fold.norm_after.{p}"),
        ("norm.{p}", "norm.{p}"),
        ("head.{p}", "head.linear.{p}"),
    ]
    for ours, (norm1, attention, norm2, mlp) in (("inner.", words), ("outer.", sentences)):
        there, here = BLOCK, BLOCK + ours
        rules += [
            (there + norm1 + ".{p}", here + "norm1.{p}"),
            ((there + attention + ".qk.{p}", there + attention + ".v.{p}"), here + "mixer.qkv.{p}"),
            (there + attention + ".proj.{p}", here + "mixer.out.{p}"),
            (there + norm2 + ".{p}", here + "norm2.{p}"),
            (there + mlp + ".fc1.{p}", here + "ffn.up.{p}"),
            (there + mlp + ".fc2.{p}", here + "ffn.down.{p}"),
        ]
    return table(*rules, ignore=("outer_tokens",))


def timm(model) -> Table:
    """timm's legacy form norms every word where the other norms all words of a patch, under one name."""
    return names(
        word_position="pixel_pos",
        position="patch_pos",
        embed="pixel_embed",
        norms=("norm1_proj", "norm2_proj"),
        words=("norm_in", "attn_in", "norm_mlp_in", "mlp_in"),
        sentences=("norm_out", "attn_out", "norm_mlp", "mlp"),
        legacy=model.blocks[0].fold.word_norm is not None,
    )


OFFICIAL = names(
    word_position="inner_pos",
    position="outer_pos",
    embed="patch_embed",
    norms=("proj_norm1", "proj_norm2"),
    words=("inner_norm1", "inner_attn", "inner_norm2", "inner_mlp"),
    sentences=("outer_norm1", "outer_attn", "outer_norm2", "outer_mlp"),
)
SOURCES = {"timm": timm, "official": OFFICIAL}
NAMES = {
    "timm": {f"{name}_patch16_224": name for name in VARIANTS if name not in ("tnt_ti", "tnt_micro")},
    "official": {f"{name}_patch16_224": name for name in ("tnt_s", "tnt_b")},
}
