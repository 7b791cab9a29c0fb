"""How timm and torchvision name the parameters of DuoFormer's trunk, a ResNet; no weights of the whole are public.

`load_reference(model, resnet_state, source="timm", partial=True)` starts from a pretrained trunk.
"""

from __future__ import annotations

from torch import nn

from anyformer.weights.mapping import Table, inside
from anyformer.weights.vision.resnet import timm


def trunk(model: nn.Module) -> Table:
    """A ResNet's names, for the trunk inside."""
    return inside(timm(model.embed.trunk), "embed.trunk")  # type: ignore[union-attr, arg-type]


SOURCES = {"timm": trunk, "official": trunk}
