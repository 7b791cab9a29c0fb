"""A ViT whose blocks share one table of relative positions."""

from __future__ import annotations

from typing import Any

from anyformer.blocks.isotropic import Isotropic
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.spec import Spec


class RelativeViT(Isotropic):
    """The isotropic skeleton with a bias of attention scores that all blocks share, in place of absolute positions.

    BEiT (arXiv:2106.08254) with shared positions, as SimMIM pretrains it (arXiv:2111.09886, section 4.1).

    Args:
        bias: the shared part, built for the grid of `image_size`.
        options: as `Isotropic`'s.
    """

    name = "relative_vit"
    papers = ("simmim",)

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec,
        bias: Spec = Spec("grid_table"),
        embed: Spec = Spec("patch"),
        norm: Spec | None = Spec("layernorm"),
        head: Spec = Spec("classifier"),
        image_size: int | tuple[int, ...] = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Any = "published",
    ):
        super().__init__(
            dim=dim,
            depth=depth,
            block=block,
            embed=embed,
            norm=norm,
            head=head,
            image_size=image_size,
            in_channels=in_channels,
            num_classes=num_classes,
            drop_path=drop_path,
            dropout=dropout,
            init=init,
        )
        mixers = [block.mixer for block in self.blocks]
        for mixer in mixers:
            if not hasattr(mixer, "distance"):
                raise FitError(f"{self.name} gives its bias to attention; {mixer.name} takes none: use isotropic.")
        heads = mixers[0].qkv.heads if mixers else 1
        self.bias = build(bias, "bias", heads=heads, grid=self.grid, prefix=self.num_prefix)
        for mixer in mixers:
            # A plain reference: the table belongs to the model, once, and not to every block.
            object.__setattr__(mixer, "distance", self.bias)
