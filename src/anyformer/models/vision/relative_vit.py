"""A ViT whose blocks share one table of relative positions."""

from __future__ import annotations

from typing import Any

from anyformer.blocks.isotropic import Isotropic
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.init import chooses_start
from anyformer.core.spec import Spec


class RelativeViT(Isotropic):
    """The isotropic skeleton with a bias of attention scores that all blocks share.

    BEiT (arXiv:2106.08254) with shared positions, as SimMIM pretrains it (arXiv:2111.09886, section 4.1).

    Args:
        bias: the shared part, built for the grid of `image_size`.
        position: absolute positions beside it; None for none.
        options: as `Isotropic`'s.
    """

    name = "relative_vit"
    papers = ("simmim",)

    @chooses_start
    def __init__(self, *, bias: Spec = Spec("grid_table"), position: Spec | None = None, **options: Any):
        super().__init__(position=position, **options)
        mixers = attentions(self)
        self.bias = grid_bias(self, bias)
        for mixer in mixers:
            # A plain reference: the table belongs to the model, once, and not to every block.
            object.__setattr__(mixer, "distance", self.bias)


def attentions(model: Isotropic) -> list[Any]:
    """The mixers of the model's blocks. Raises `FitError` where one takes no bias of its scores."""
    mixers = [block.mixer for block in model.blocks]
    for mixer in mixers:
        if not hasattr(mixer, "distance"):
            raise FitError(f"{model.name} gives its bias to attention; {mixer.name} takes none: use isotropic.")
    return mixers


def grid_bias(model: Isotropic, bias: Spec) -> Any:
    """A bias of attention scores for the model's heads, grid and class tokens."""
    heads = next((block.mixer.qkv.heads for block in model.blocks), 1)
    return build(bias, "bias", heads=heads, grid=model.grid, prefix=model.num_prefix)
