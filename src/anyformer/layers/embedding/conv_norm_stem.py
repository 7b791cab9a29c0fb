"""A stem of several convolutions, each with norm and activation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class ConvNormStem(Part):
    """3x3 convolutions of these widths and strides, a norm and an activation after each: images to tokens.

    `(b, in_channels, *size)` to `(b, *size / strides, dim)`; where the last width is not `dim`, a linear map and a norm
    follow. Li et al. 2022 (Next-ViT), arXiv:2207.05501, section 3.5, and MedViT.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        widths, strides: of each convolution.
        norm, act: after each.
        rank: axes of the image.
        what: who asks, for messages.

    Raises:
        OptionError: not one stride for each width.
        SizeError: an image without a pixel.
    """

    name = "conv_norm_stem"
    kind = "embed"
    papers = ("medvit_v2",)
    tiny = {"in_channels": 3, "widths": (4, 6), "strides": (2, 1)}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 32, 64, 64),
        strides: Sequence[int] = (2, 1, 1, 2),
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        if not widths or len(widths) != len(strides):
            raise OptionError(f"{self.name}: one width and one stride for each convolution; given {widths}, {strides}.")
        self.convs = nn.ModuleList(
            StridedConv(a, b, kernel=3, stride=stride, padding=1, bias=False, rank=rank, what=what)
            for (a, b), stride in zip(pairwise((in_channels, *widths)), strides, strict=True)
        )
        self.norms = nn.ModuleList(build(norm, "norm", dim=width) for width in widths)
        self.act = build(act, "act")
        wider = widths[-1] != dim
        self.project = init.linear(widths[-1], dim, bias=False) if wider else None
        self.norm = build(norm, "norm", dim=dim) if wider else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        grid = tuple(size)
        for conv in self.convs:
            grid = conv.grid(grid)
        return grid

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = images.movedim(1, -1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        return x if self.project is None or self.norm is None else self.norm(self.project(x))
