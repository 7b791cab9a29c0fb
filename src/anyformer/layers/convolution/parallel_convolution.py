"""Convolutions in groups of channels, one after the other, beside attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class Convolutions(nn.Module):
    """3x3 convolutions with norm and activation between them: `(b, *grid, inputs)` to `(b, *smaller, widths[-1])`.

    Args:
        inputs: channels in.
        widths, strides: channels and stride of each convolution.
        groups: shares of the channels that are convolved on their own.
        norm, act: after each convolution but the last.
        rank: axes of the grid.
        what: who asks, for messages.

    Raises:
        OptionError: groups that do not divide the channels.
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        *,
        strides: Sequence[int] = (1, 1, 1),
        groups: int = 1,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("silu"),
        rank: int = 2,
        what: str = "convolutions",
    ):
        super().__init__()
        if any(width % groups for width in (inputs, *widths)):
            raise OptionError(f"{what}: groups divide all of {inputs} and {tuple(widths)} channels; given {groups}.")
        self.convs = nn.ModuleList(
            StridedConv(
                a, b, kernel=3, stride=s, padding=1, groups=groups, std=(3**rank * a / groups) ** -0.5, rank=rank,
                what=what,
            )
            for (a, b), s in zip(pairwise((inputs, *widths)), strides, strict=True)
        )  # fmt: skip
        self.norms = nn.ModuleList(build(norm, "norm", dim=width) for width in widths[:-1])
        self.act = build(act, "act")

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller c"]:
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = self.act(norm(conv(x)))
        return self.convs[-1](x)


class ParallelConvolution(TokenMixer):
    """Three 3x3 convolutions, widening and narrowing, with norm and activation between: `(b, *grid, c)` to the same.

    The parallel convolution module of Xu et al. 2021 (ViTAE), arXiv:2106.03348, in the shape of ViTAEv2.
    Outside the grid, and at padding of the input, tokens count as zero. Cost: tokens 3^rank (2 ratio c^2 + c^2) /
    groups multiply-adds.

    Args:
        dim: channels.
        ratio: channels between the first and the second convolution, per channel, to a multiple of the groups.
        groups: shares of the channels that are convolved on their own.
        norm, act: between convolutions.
        grid: only its rank counts.

    Raises:
        OptionError: groups that do not divide the channels.
    """

    name = "parallel_convolution"
    papers = ("vsa",)
    padding = False  # the second convolution sees what the first made of it
    tiny = {"ratio": 2.0, "groups": 2}

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        groups: int = 1,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("silu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        widths = (max(1, round(dim * ratio / groups)) * groups, dim, dim)
        self.body = Convolutions(dim, widths, groups=groups, norm=norm, act=act, rank=len(grid), what=self.name)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.body(x if segments is None else segments.zero(x))
