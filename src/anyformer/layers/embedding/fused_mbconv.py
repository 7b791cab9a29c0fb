"""From finer to coarser maps by a residual convolution and a strided one between two norms; a stem of it."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.convolution.fused_mbconv import FusedMBConv
from anyformer.layers.embedding.patch import StridedConv


class FusedMBConvDownsample(Part):
    """norm(conv(FusedMBConv(norm(x)))) with a 3x3 convolution of stride 2: `(b, *grid, i)` to `(b, *grid / 2, dim)`.

    Hatamizadeh et al. 2022 (GC ViT), arXiv:2206.09959, section 3.2, "downsampler". Odd sides are rounded up.

    Args:
        inputs, dim: channels in and out.
        norm: norm before and after.
        act: activation of the residual convolution.
        rank: axes of the grid.
        what: who asks, for messages.
    """

    name = "fused_mbconv"
    kind = "downsample"
    papers = ("gcvit",)
    tiny = {"inputs": 8}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        norm: Spec = Spec("layernorm"),
        act: Spec = Spec("gelu"),
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.norm_before = build(norm, "norm", dim=inputs)
        self.mbconv = FusedMBConv(inputs, act=act, grid=(None,) * rank)
        self.project = StridedConv(
            inputs, dim, kernel=3, stride=2, padding=1, rest="drop", bias=False, rank=rank, what=what
        )
        self.norm_after = build(norm, "norm", dim=dim)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.project.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        return self.norm_after(self.project(self.mbconv(self.norm_before(x))))


class FusedMBConvStem(Part):
    """A 3x3 convolution of stride 2, then `FusedMBConvDownsample`: images to tokens `(b, *size / 4, dim)`.

    Hatamizadeh et al. 2022 (GC ViT), arXiv:2206.09959, section 3.1.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        norm, act: as `FusedMBConvDownsample`'s.
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "fused_mbconv_stem"
    kind = "embed"
    papers = ("gcvit",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        norm: Spec = Spec("layernorm"),
        act: Spec = Spec("gelu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        self.conv = StridedConv(in_channels, dim, kernel=3, stride=2, padding=1, rest="drop", rank=rank, what=what)
        self.down = FusedMBConvDownsample(dim, dim, norm=norm, act=act, rank=rank, what=what)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.down.grid(self.conv.grid(size))

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        return self.down(self.conv(images.movedim(1, -1)))
