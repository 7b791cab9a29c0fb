"""Patches for images with a pixel more than whole patches: zeros on both sides, before the norm."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.layers.embedding.patch import ConvDownsample, PatchEmbedding


def bordered(x: Float[Tensor, "b *grid c"], kernel: int) -> Float[Tensor, "b *larger c"]:
    """A map with kernel - 1 zeros along every axis, half of them (rounded down) before it."""
    before = (kernel - 1) // 2
    return nn.functional.pad(x, (0, 0, *(before, kernel - 1 - before) * (x.dim() - 2)))


class OddPatchEmbedding(PatchEmbedding):
    """A patch embedding of ceil(side / size) patches a side, the image in the middle: 1281 pixels give 321 of 4x4.

    So the corners of all maps of an image of 32 n + 1 pixels lie on one another, as in the ConvNeXt of kMaX-DeepLab
    (Yu et al. 2022, arXiv:2207.04044). Arguments as `PatchEmbedding`'s, without overlap.
    """

    name = "odd_patch"
    papers = ("kmax_deeplab",)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        stride = self.project.strides[0]
        larger = bordered(images.movedim(1, -1), stride).movedim(-1, 1)
        cut = (slice(None), slice(None), *(slice(g * stride) for g in self.grid(images.shape[2:])))
        return super().forward(larger[cut])


class OddDownsample(ConvDownsample):
    """The same between stages. The border is normed with the map. Arguments as `ConvDownsample`'s, without overlap."""

    name = "odd_conv"
    papers = ("kmax_deeplab",)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        stride = self.project.strides[0]
        cut = (slice(None), *(slice(g * stride) for g in self.grid(x.shape[1:-1])))
        return super().forward(bordered(x, stride)[cut])
