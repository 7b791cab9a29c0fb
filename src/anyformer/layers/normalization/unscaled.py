"""Norms without a scale of their own."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.part import Norm
from anyformer.kernels.rms_norm import rms_norm


class UnscaledRMSNorm(Norm):
    """Each token divided by its root mean square, and nothing else: no parameters.

    RetNet (Sun et al. 2023, arXiv:2307.08621, section 2.2) norms each head so, as its authors' code has it.
    """

    name = "unscaled_rmsnorm"

    def __init__(self, dim: int, *, eps: float = 1e-6):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return rms_norm(x, None, self.eps)


class UnscaledLayerNorm(Norm):
    """Each token to mean 0 and variance 1 over its channels, and nothing else: no parameters.

    As BDH (arXiv:2509.26507) and TokenFormer (arXiv:2410.23168, section 3.3) norm their branches.
    """

    name = "unscaled_layernorm"
    papers = ("bdh", "tokenformer")

    def __init__(self, dim: int, *, eps: float = 1e-5):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return nn.functional.layer_norm(x, (self.dim,), eps=self.eps)
