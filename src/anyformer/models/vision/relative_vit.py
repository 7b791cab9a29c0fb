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
        mixers = [block.mixer for block in self.blocks]
        for mixer in mixers:
            if not hasattr(mixer, "distance"):
                raise FitError(f"{self.name} gives its bias to attention; {mixer.name} takes none: use isotropic.")
        heads = mixers[0].qkv.heads if mixers else 1
        self.bias = build(bias, "bias", heads=heads, grid=self.grid, prefix=self.num_prefix)
        for mixer in mixers:
            # A plain reference: the table belongs to the model, once, and not to every block.
            object.__setattr__(mixer, "distance", self.bias)
