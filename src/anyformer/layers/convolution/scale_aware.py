"""Modulation by convolutions of several sizes: each head of channels sees another neighbourhood, and all are mixed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import split_dim
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.feedforward.group_linear import GroupLinear


class MixedConvolution(nn.Module):
    """A depthwise convolution for each head of channels, of growing size: `(b, *grid, c)` to `(b, *grid, heads, c/h)`.

    Multi-head mixed convolution of Lin et al. 2023 (SMT), arXiv:2307.08579, section 3: head i has filters of
    3 + 2 i tokens. Cost: tokens c mean(kernels^rank) multiply-adds.

    Args:
        dim: channels.
        kernels: tokens along each axis that the filters of each head cover; odd.
        grid: only its rank counts.
        part: who asks, for messages.

    Raises:
        OptionError: more or fewer kernels than divide the channels; an even kernel.
    """

    def __init__(self, dim: int, *, kernels: Sequence[int], grid: Sequence[int | None], part: str):
        super().__init__()
        share = split_dim(dim, len(kernels), None, part)
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.convs = nn.ModuleList(
            DepthwiseConv(share, kernel=kernel, std=kernel ** (-len(grid) / 2), grid=grid) for kernel in kernels
        )

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Tensor:
        heads = x.chunk(len(self.convs), -1)
        return torch.stack([conv(head, segments) for conv, head in zip(self.convs, heads, strict=True)], -2)


class ScaleAwareModulation(TokenMixer):
    """W_o (M * W_v x), where M mixes convolutions of several sizes of W_s x: `(b, *grid, c)` to the same.

    M = W_mix act(norm(W_group MixedConvolution(W_s x))): the groups of W_group hold one channel of every head each, so
    that every group sees all sizes; W_mix is between groups. Lin et al. 2023 (SMT), arXiv:2307.08579, section 3. At
    padding, and outside the grid, tokens count as zero for the convolutions.
    Cost: tokens ((3 + ratio) c^2 + heads ratio c + c mean(kernels^rank)) multiply-adds. Ranks 1 to 3, any grid.

    Args:
        dim: channels.
        kernels: tokens along each axis that the filters of each head cover; odd, one for each head.
        ratio: channels of a group after W_group, per channel before.
        norm, act: between W_group and W_mix.
        grid: only its rank counts.

    Raises:
        OptionError: heads (kernels) that do not divide dim; an even kernel; no kernel.
    """

    name = "scale_aware"
    papers = ("smt",)
    tiny = {"kernels": (3, 5)}

    def __init__(
        self,
        dim: int,
        *,
        kernels: Sequence[int] = (3, 5, 7, 9),
        ratio: int = 2,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("gelu"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if not kernels:
            raise OptionError(f"{self.name}.kernels: one kernel for each head of channels, as in (3, 5); given none.")
        heads = len(kernels)
        self.s = init.linear(dim, dim)
        self.v = init.linear(dim, dim)
        self.mixed = MixedConvolution(dim, kernels=kernels, grid=grid, part=self.name)
        self.group = GroupLinear(dim, ratio * dim, dim // heads, std=heads**-0.5)
        self.norm = build(norm, "norm", dim=ratio * dim)
        self.act = build(act, "act")
        self.mix = init.linear(ratio * dim, dim)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.out(self.modulator(x, segments) * self.v(x))

    def modulator(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        """M, what multiplies the values of every token."""
        groups = self.mixed(self.s(x), segments).transpose(-1, -2)  # one channel of every head
        return self.mix(self.act(self.norm(self.group(groups.flatten(-2)))))
