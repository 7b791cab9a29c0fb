"""How a branch joins the residual stream."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import FitError
from anyformer.core.part import Residual
from anyformer.kernels.reuse import overwritable


def drop_path(y: Tensor, rate: float, training: bool) -> Tensor:
    """Leave out a sample's whole branch with this probability (stochastic depth, arXiv:1603.09382)."""
    if not training or rate == 0.0:
        return y
    keep = torch.rand(len(y), *[1] * (y.dim() - 1), device=y.device) >= rate
    return y * keep.to(y.dtype) / (1 - rate)


def check_shape(x: Tensor, y: Tensor) -> None:
    """Raise `FitError` where a branch gave another shape than it got; a sum would spread a shorter one silently."""
    if x.shape != y.shape:
        raise FitError(
            f"a mixer keeps the shape of its tokens, {tuple(x.shape)}; the one in this block returned {tuple(y.shape)}."
        )


class Add(Residual):
    """x + y.

    In inference on a CPU the sum is written into `y`, a branch's fresh output.
    """

    name = "add"

    def __init__(self, *, drop_path: float = 0.0, dropout: float = 0.0):
        super().__init__()
        self.drop_path, self.dropout = drop_path, dropout

    def branch(self, y: Tensor) -> Tensor:
        if self.training and self.dropout:
            y = nn.functional.dropout(y, self.dropout)
        return drop_path(y, self.drop_path, self.training)

    def forward(self, x: Float[Tensor, "b *grid c"], y: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        check_shape(x, y)
        y = self.branch(y)
        return y.add_(x) if overwritable(y, x) else x + y


class LayerScale(Add):
    """x + g * y with a learned scale per channel that starts small. Touvron et al. 2021, arXiv:2103.17239, eq. 4."""

    name = "layer_scale"
    papers = ("convnext",)

    def __init__(self, dim: int, *, init: float = 1e-5, drop_path: float = 0.0, dropout: float = 0.0):
        super().__init__(drop_path=drop_path, dropout=dropout)
        self.weight = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        check_shape(x, y)
        if self.training and (self.drop_path or self.dropout):
            return x + self.branch(y * self.weight)
        if overwritable(y, x):
            return torch.addcmul(x, y, self.weight, out=y)
        return torch.addcmul(x, y, self.weight)


class ResScale(Add):
    """s * x + y with a learned scale per channel on the stream. Yu et al. 2022, arXiv:2210.13452, section 3.2."""

    name = "res_scale"
    papers = ("metaformer_baselines",)

    def __init__(self, dim: int, *, init: float = 1.0, drop_path: float = 0.0, dropout: float = 0.0):
        super().__init__(drop_path=drop_path, dropout=dropout)
        self.weight = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        check_shape(x, y)
        y = self.branch(y)
        return y.addcmul_(x, self.weight) if overwritable(y, x) else torch.addcmul(y, x, self.weight)
