"""How timm names gMixer's parameters and variants."""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.weights.mapping import Rule, Table
from anyformer.weights.vision.mlp_mixer import TIMM as MIXER


def gate_first(tensor: Tensor) -> Tensor:
    """The gate's half before the gated one; timm has it behind."""
    return torch.cat(tensor.chunk(2)[::-1])


TIMM = Table(
    [
        Rule("blocks.{i}.mlp_tokens.fc1.{p}", "blocks.{i}.mixer.mlp.gate_up.{p}", gate_first),
        Rule("blocks.{i}.mlp_channels.fc1.{p}", "blocks.{i}.ffn.gate_up.{p}", gate_first),
    ],
    parent=MIXER,
)
SOURCES = {"timm": TIMM}
NAMES = {"timm": {"gmixer_12_224": "gmixer_12", "gmixer_24_224": "gmixer_24"}}
