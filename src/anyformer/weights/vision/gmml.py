"""How the authors name GMML's parameters: the encoder's, which is a ViT of timm's names, and the head's."""

from __future__ import annotations

from anyformer.weights.mapping import Rule, Table, inside
from anyformer.weights.vision.vit import OFFICIAL as VIT

SOURCES = {
    "official": Table(
        [
            Rule("head_recons.mlp.{p}", "head.{p}"),
            Rule("head_recons.convTrans.{p}", "pixels.{p}"),
            *inside(VIT, "encoder", "backbone.").rules,
        ],
        prefixes=("module.",),
    )
}
