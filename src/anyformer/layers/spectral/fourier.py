"""Fourier transforms over tokens and channels in place of attention: nothing to learn."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments


class FourierMixing(TokenMixer):
    """y = Re(F_tokens F_channels x): the real part of the Fourier transform along every axis of the grid and channels.

    Lee-Thorp et al. 2021 (FNet), arXiv:2105.03824, equation 3. No parameters. Every output depends on the number of
    tokens, so padding behind a text changes what a text becomes, as in the authors' code; what stands there does not,
    as padding counts as zero. In at least float32. Cost: 5 tokens c log2(tokens c) operations.

    Args:
        norm: "backward" leaves the sums as they are, as the paper does; "ortho" divides by the root of tokens times c.
    """

    name = "fourier"
    papers = ("lra",)

    def __init__(self, *, norm: Literal["backward", "ortho"] = "backward"):
        super().__init__()
        self.norm = norm

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = x if segments is None else segments.zero(x)
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        axes, channels = tuple(range(1, x.dim() - 1)), x.shape[-1]
        first = torch.fft.rfftn(wide, dim=(*axes, x.dim() - 1), norm=self.norm).real
        # The transform of real numbers at -k is the conjugate of that at k, so the other channels are these, backwards.
        others = first[..., 1 : (channels + 1) // 2].flip((*axes, -1)).roll((1,) * len(axes), axes)
        return torch.cat([first, others], -1).to(x.dtype)
