"""Instance norm: each channel of each sample by itself."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core.part import Norm


class InstanceNorm(Norm):
    """Each channel of each sample to mean 0 and variance 1 over its grid; nothing is learned, nothing is kept.

    Ulyanov et al. 2016, arXiv:1607.08022, equation 4. It takes brightness and contrast out of an image's features, so
    that those of two frames can be compared. A grid of one token becomes zero.
    """

    name = "instancenorm"
    papers = ("raft",)
    per_token = False

    def __init__(self, dim: int, *, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        axes = tuple(range(1, x.dim() - 1))
        wide = x.float()
        mean = wide.mean(axes, keepdim=True)
        centred = wide - mean
        return (centred * (centred.square().mean(axes, keepdim=True) + self.eps).rsqrt()).to(x.dtype)
