"""From hyperspectral patches to tokens: convolutions over bands and places, and channels weighed by their means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.convolution.fused_mbconv import SqueezeExcite
from anyformer.layers.embedding.patch import StridedConv


class BandDropout(nn.Module):
    """In training, whole bands of a channel are left out with this probability: `(b, bands, h, w, c)` to the same."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b s h w c"]) -> Float[Tensor, "b s h w c"]:
        if not self.training or not self.rate:
            return x
        keep = torch.rand(len(x), x.shape[1], 1, 1, x.shape[-1], device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class SpectralStem(Part):
    """3-D convolutions of a patch, its bands averaged, then patches: `(b, bands, h, w)` to tokens `(b, *grid, dim)`.

    Three convolutions over bands and places with norm and activation, band dropout, squeeze-and-excitation of the
    channels, the mean over bands, and an overlapping convolution of stride 2. Zidi et al. 2025 (LoLA-SpecViT),
    arXiv:2506.17759, in the sizes of the authors' code. Cost: bands h w sum(kernel 9 c c') multiply-adds.

    Args:
        dim: channels of a token, and of the last convolution.
        in_channels: bands.
        widths: channels of the convolutions before the last.
        kernels: bands that each convolution covers; 3x3 places. Odd.
        size, stride, padding: of the convolution to tokens.
        band_dropout: share of bands left out of a channel in training.
        excite: squeezed channels of the gate, per channel.
        norm, act: after each convolution.
        rank: axes of the patch: 2.
        what: who asks, for messages.

    Raises:
        OptionError: not one width fewer than kernels.
        SizeError: another number of bands than the stem is built for, or a patch without a token.
    """

    name = "spectral_stem"
    kind = "embed"
    papers = ("lola_specvit",)
    tiny = {"in_channels": 3, "widths": (2, 4), "excite": 0.5}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 15,
        widths: Sequence[int] = (32, 64),
        kernels: Sequence[int] = (7, 5, 3),
        size: int = 4,
        stride: int = 2,
        padding: int = 1,
        band_dropout: float = 0.1,
        excite: float = 1 / 16,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("silu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        if len(kernels) != len(widths) + 1 or rank != 2:
            raise OptionError(
                f"{self.name}: a kernel for each convolution and a width for each but the last, on patches of rank 2; "
                f"given widths {tuple(widths)}, kernels {tuple(kernels)} and rank {rank}."
            )
        self.bands = in_channels
        channels = (1, *widths, dim)
        self.convs = nn.ModuleList(
            StridedConv(
                a,
                b,
                kernel=(k, 3, 3),
                stride=1,
                padding=(k // 2, 1, 1),
                std=(2 / (9 * k * a)) ** 0.5,
                rank=3,
                what=what,
            )
            for (a, b), k in zip(pairwise(channels), kernels, strict=True)
        )
        self.norms = nn.ModuleList(build(norm, "norm", dim=width) for width in channels[1:])
        self.act = build(act, "act")
        self.band_dropout = BandDropout(band_dropout)
        self.gate = SqueezeExcite(dim, ratio=excite, act=Spec("relu"))
        self.project = StridedConv(
            dim, dim, kernel=size, stride=stride, padding=padding, rest="drop", std=(2 / (dim * size**2)) ** 0.5,
            what=what,
        )  # fmt: skip
        self.norm = build(norm, "norm", dim=dim)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of a patch of this size."""
        return self.project.grid(size)

    def forward(self, images: Float[Tensor, "b s h w"]) -> Float[Tensor, "b *grid c"]:
        if images.shape[1] != self.bands:
            raise SizeError(
                f"this model is built for {self.bands} bands; the patch has {images.shape[1]}: take as many components "
                f"of it, or create the model with in_channels={images.shape[1]}."
            )
        x = images[..., None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        x = self.gate(self.band_dropout(x)).mean(1)
        return self.act(self.norm(self.project(x)))
