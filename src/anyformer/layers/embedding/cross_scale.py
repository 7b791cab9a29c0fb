"""Patches of several sizes around the same places, side by side in one token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class CrossScaleConv(nn.Module):
    """Convolutions of several kernels and one stride side by side: `(b, *grid, c)` to `(b, *smaller, dim)`.

    The first kernel fills half of the channels, each next one half of what is left, the last all that is left, as large
    kernels cost the most. A grid that the stride does not divide loses its end.

    Args:
        inputs, dim: channels in and out.
        kernels: sides of the patches, each the stride or an even number of tokens more.
        stride: tokens between places.
        rank: axes of the grid.
        what: who asks, for messages.

    Raises:
        OptionError: kernels that do not lie around the same places, or more than the channels can be shared by.
        SizeError: a grid smaller than the stride.
    """

    def __init__(self, inputs: int, dim: int, *, kernels: Sequence[int], stride: int, rank: int, what: str):
        super().__init__()
        wrong = [k for k in kernels if k < stride or (k - stride) % 2]
        if not kernels or wrong:
            raise OptionError(
                f"{what}: every kernel is the stride ({stride}), or larger by an even number, so that all lie around "
                f"the same places; given kernels {tuple(kernels)}."
            )
        widths = [dim // 2**i for i in range(1, len(kernels))]
        widths.append(dim - sum(widths))
        if min(widths) < 1:
            raise OptionError(
                f"{what}: {len(kernels)} kernels share {2 ** (len(kernels) - 1)} channels or more; given {dim}."
            )
        self.convs = nn.ModuleList(
            StridedConv(
                inputs, w, kernel=k, stride=stride, padding=(k - stride) // 2, rest="drop", rank=rank, what=what
            )
            for k, w in zip(kernels, widths, strict=True)
        )

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.convs[0].grid(size)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        self.grid(x.shape[1:-1])
        return torch.cat([conv(x) for conv in self.convs], -1)


class CrossScaleEmbedding(Part):
    """Images `(b, channels, *size)` to tokens `(b, *size / stride, dim)`, each of patches of several sizes.

    The cross-scale embedding layer (CEL): Wang et al. 2021 (CrossFormer), arXiv:2108.00154, section 3.1. Cost: tokens
    channels sum(width kernel^rank) multiply-adds, with half of `dim` for the smallest kernel, a quarter for the next.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        kernels, stride, rank, what: as `CrossScaleConv`'s.
        norm: norm of the tokens.
    """

    name = "cross_scale"
    kind = "embed"
    papers = ("crossformer",)
    tiny = {"in_channels": 3, "kernels": (2, 4), "stride": 2}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        kernels: Sequence[int] = (4, 8, 16, 32),
        stride: int = 4,
        norm: Spec | None = Spec("layernorm"),
        rank: int = 2,
        what: str = "cross-scale embedding",
    ):
        super().__init__()
        self.project = CrossScaleConv(in_channels, dim, kernels=kernels, stride=stride, rank=rank, what=what)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.project.grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = self.project(images.movedim(1, -1))
        return x if self.norm is None else self.norm(x)


class CrossScaleDownsample(Part):
    """Between stages: `(b, *grid, inputs)` to `(b, *grid / stride, dim)` by patches of several sizes.

    As `CrossScaleEmbedding`, after a norm; CrossFormer's stages 2 to 4.

    Args:
        inputs, dim: channels in and out.
        kernels, stride, rank, what: as `CrossScaleConv`'s.
        norm: norm of what comes in.
    """

    name = "cross_scale_merge"
    kind = "downsample"
    papers = ("crossformer",)
    tiny = {"inputs": 8}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernels: Sequence[int] = (2, 4),
        stride: int = 2,
        norm: Spec | None = Spec("layernorm"),
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.norm = build(norm, "norm", dim=inputs) if norm is not None else None
        self.project = CrossScaleConv(inputs, dim, kernels=kernels, stride=stride, rank=rank, what=what)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.project.grid(size)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *smaller d"]:
        return self.project(x if self.norm is None else self.norm(x))
