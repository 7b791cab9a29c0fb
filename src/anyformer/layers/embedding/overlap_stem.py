"""From images to tokens by overlapping convolutions of stride 2."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class OverlapStem(Part):
    """Two 3x3 convolutions of stride 2: images `(b, channels, *size)` to tokens `(b, *size / 4, dim)`.

    In place of patches of 4x4, early convolutions make training steadier: Xiao et al. 2021, arXiv:2106.14881.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        hidden: channels between the two convolutions (None: dim).
        act: activation between them; None for none.
        norm: norm of the tokens.
        rank: axes of the image.
    """

    name = "overlap_stem"
    kind = "embed"
    papers = ("convnext",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        hidden: int | None = None,
        act: Spec | None = None,
        norm: Spec | None = Spec("layernorm"),
        rank: int = 2,
    ):
        super().__init__()
        hidden = dim if hidden is None else hidden
        self.layers = nn.Sequential(
            *(
                StridedConv(a, b, kernel=3, stride=2, padding=1, rank=rank, what=self.name)
                for a, b in ((in_channels, hidden), (hidden, dim))
            )
        )
        self.act = build(act, "act") if act is not None else None
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return tuple((s + 3) // 4 for s in size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        first, second = self.layers
        x = first(images.movedim(1, -1))
        x = second(x if self.act is None else self.act(x))
        return x if self.norm is None else self.norm(x)
