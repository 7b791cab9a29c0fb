"""One vector from the tokens by power means with learned exponents, one for each group of channels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.layers.pooling.pools import Pool


class GeneralizedMeanPool(Pool):
    """(mean over tokens of max(x, eps)^p)^(1 / p) with a learned p for each group of channels.

    `(b, *grid, c)` to `(b, c)`. GGeM, Ko et al. 2022, arXiv:2212.04114, section 3; with one group GeM, Radenovic et al.
    2017, arXiv:1711.02512, equation 3. At p = 1 the mean of the clamped tokens; the larger p, the nearer to their
    maximum. Padding and the `prefix` are left out. Cost: a power for each value, one more for each channel.

    Args:
        dim: channels.
        groups: of neighbouring channels, each with its exponent; GGeM takes the heads of the last attention.
        p: first value of every exponent.
        eps: least value of a token that counts.

    Raises:
        OptionError: groups that do not divide the channels; p or eps that is not above 0.
    """

    name = "generalized_mean"
    papers = ("ggem",)
    tiny = {"groups": 2}

    def __init__(self, dim: int, *, groups: int = 1, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        if groups < 1 or dim % groups:
            fits = [g for g in range(1, min(dim, 64) + 1) if dim % g == 0]
            raise OptionError(
                f"{self.name}: {groups} groups do not divide {dim} channels; groups that fit: "
                f"{', '.join(map(str, fits))}."
            )
        if not p > 0 or not eps > 0:
            raise OptionError(
                f"{self.name}: the exponent p and the least value eps are above 0 (p=1 is the mean, a large p nearly "
                f"the maximum); given p={p}, eps={eps}."
            )
        self.eps = eps
        self.p = nn.Parameter(torch.full((groups,), float(p)))

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b c"]:
        x = x.flatten(1, -2)[:, prefix:].clamp(min=self.eps)
        valid = None if segments is None else segments.flat().valid[:, prefix:, None]
        p = self.p.repeat_interleave(x.shape[-1] // len(self.p))
        # Values are taken relative to the largest one, which leaves the result as it is: powers of small ones are zero.
        top = (x if valid is None else x.masked_fill(~valid, self.eps)).detach().amax(1, keepdim=True)
        powers = (x / top) ** p
        if valid is None:
            mean = powers.mean(1)
        else:
            mean = (powers * valid).sum(1) / valid.sum(1).clamp(min=1)
            mean = mean.clamp(min=torch.finfo(mean.dtype).tiny)  # a row of nothing but padding
        return (top[:, 0] * mean ** (1 / p)).to(x.dtype)
