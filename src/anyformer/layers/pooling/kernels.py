"""Soft histograms of similarities: Gaussian kernels, and what saturates their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError
from anyformer.core.part import Part

LEAST = 1e-10
"""Sums are no smaller before a logarithm or a root."""


class GaussianKernels(nn.Module):
    """How near each similarity lies to each of k centres: exp(-(c - mu_k)^2 / (2 sigma_k^2)).

    `(..., n)` to `(..., k, n)`; their sum over n is a soft histogram. Xiong et al. 2017 (K-NRM), arXiv:1706.06613,
    equation 4. Cost: k exponentials a similarity.

    Args:
        centres, widths: mu and sigma, one for each kernel.

    Raises:
        OptionError: another number of widths than of centres, none of them, or a width that is not positive.
    """

    centres: Tensor
    widths: Tensor

    def __init__(self, centres: Sequence[float], widths: Sequence[float]):
        super().__init__()
        if not centres or len(centres) != len(widths) or min(widths) <= 0:
            raise OptionError(
                "kernels have a centre and a positive width each; given "
                f"{len(centres)} centres and the widths {list(widths)}."
            )
        self.register_buffer("centres", torch.tensor(centres, dtype=torch.float32)[:, None], False)
        self.register_buffer("widths", torch.tensor(widths, dtype=torch.float32)[:, None], False)

    def forward(self, similarity: Float[Tensor, "*b n"]) -> Float[Tensor, "*b k n"]:
        return (-((similarity[..., None, :] - self.centres) ** 2) / (2 * self.widths**2)).exp()


class Saturation(Part):
    """What the sums of kernels over regions of a document are worth: `(b, q, k, r)` to the same shape.

    It is told the query's terms `(b, q, c)` and how many terms each region holds, `(b, r)`; most look at neither.
    """

    kind: ClassVar[str] = "saturation"

    def __init__(self, dim: int, *, kernels: int = 11):
        super().__init__()

    def forward(
        self, sums: Float[Tensor, "b q k r"], terms: Float[Tensor, "b q c"], sizes: Float[Tensor, "b r"]
    ) -> Float[Tensor, "b q k r"]:
        raise NotImplementedError


class LogSaturation(Saturation):
    """scale log(x): Xiong et al. 2017 (K-NRM), arXiv:1706.06613, equation 3; the scale is that of its public code."""

    name = "log_saturation"
    papers = ("tkl",)

    def __init__(self, dim: int, *, kernels: int = 11, scale: float = 0.01):
        super().__init__(dim, kernels=kernels)
        self.scale = scale

    def forward(self, sums: Tensor, terms: Tensor, sizes: Tensor) -> Tensor:
        return self.scale * sums.clamp(min=LEAST).log()


class ScaledLogSaturation(Saturation):
    """log(alpha_k x), alpha learned for each kernel. As the public code of TK (arXiv:2002.01854) has it."""

    name = "scaled_log_saturation"
    papers = ("tkl",)

    def __init__(self, dim: int, *, kernels: int = 11):
        super().__init__(dim, kernels=kernels)
        self.scales = nn.Parameter(torch.ones(kernels))

    def forward(self, sums: Tensor, terms: Tensor, sizes: Tensor) -> Tensor:
        return (sums * self.scales[:, None]).clamp(min=LEAST).log()


class LearnedSaturation(Saturation):
    """a x^(1/b) - c, where a, b and c follow from the query's term and from how many terms the region holds.

    s = layernorm([w . term, size]); a, b and c are linear in s and start near 100, where a x^(1/b) - c is about log(x).
    Hofstaetter et al. 2020 (TKL), arXiv:2005.04908, section 3.2. Cost: c + 6 multiply-adds and a power for each sum.
    """

    name = "learned_saturation"
    papers = ("tkl",)

    def __init__(self, dim: int, *, kernels: int = 11):
        super().__init__(dim, kernels=kernels)
        self.reduce = nn.Linear(dim, 1, bias=False)
        self.norm = nn.LayerNorm(2)
        self.factor, self.root, self.shift = (self._start(nn.Linear(2, 1)) for _ in range(3))

    @staticmethod
    def _start(layer: nn.Linear) -> nn.Linear:
        nn.init.constant_(layer.bias, 100)
        nn.init.uniform_(layer.weight, -0.014, 0.014)
        return layer

    def forward(self, sums: Tensor, terms: Tensor, sizes: Tensor) -> Tensor:
        shape = (*terms.shape[:2], sizes.shape[1])
        told = self.norm(torch.stack([self.reduce(terms).expand(shape), sizes[:, None].expand(shape)], -1))
        factor, root, shift = (layer(told).squeeze(-1)[:, :, None] for layer in (self.factor, self.root, self.shift))
        return factor * sums.clamp(min=LEAST) ** (1 / root) - shift
