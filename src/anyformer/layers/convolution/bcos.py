"""B-cos forms of linear layers and convolutions: the output grows with the cosine between input and weight."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from anyformer.core.errors import SizeError
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.embedding.patch import StridedConv


class Bcos:
    """y = |w x / |x||^(b - 1) w x, for every patch x that the layer sees; with b = 1 the layer as it was.

    Arya et al. 2024, arXiv:2411.00715, section 3: w as pretrained. For weights of norm 1 it is |cos(x, w)|^(b - 1) w x,
    Boehle et al. 2022, arXiv:2205.10268, equation 3. While `explaining`, the factor counts as a constant, so that the
    gradient by the input is the matrix W(x) of y = W(x) x. Cost: the layer's, and a sum of squares per patch.

    Attributes:
        b: the exponent; 1 or more. 2 makes the published networks.
        explaining: whether the factor is left out of the gradient.
    """

    b: float = 2.0
    explaining: bool = False
    channels: int = 1
    """The axis of channels in the input."""

    def forward(self: Any, x: Tensor, *rest: Any) -> Tensor:
        known = self.inputs
        if x.shape[self.channels] != known:
            raise SizeError(
                f"this B-cos layer takes {known} channels; given {x.shape[self.channels]}: images for a converted "
                "model are made with encode(images), which puts the inverted channels behind the others."
            )
        y = super().forward(x, *rest)  # type: ignore[misc]
        if self.b == 1:
            return y
        ratio = y / self.norms(x, *rest)
        if self.explaining:
            ratio = ratio.detach()
        factor = ratio.abs() if self.b == 2 else (ratio.abs() + 1e-6) ** (self.b - 1)
        return factor * y

    def norms(self: Any, x: Tensor, *rest: Any) -> Tensor:
        """|x| of every patch, of the output's shape or one that spreads to it."""
        sums = copy.copy(self)
        sums.__class__ = type(self).__mro__[2]  # the plain layer, with ones for weights
        outputs = len(self.weight) if self.separate else 1
        ones = torch.ones(outputs, *self.weight.shape[1:], device=x.device, dtype=self.weight.dtype)
        sums._parameters = {"weight": nn.Parameter(ones, requires_grad=False), "bias": None}
        return (sums(x.square(), *rest) + 1e-6).sqrt()

    @property
    def inputs(self: Any) -> int:
        """Channels of the input."""
        return self.weight.shape[1] * getattr(self, "groups", 1)

    @property
    def separate(self) -> bool:
        """Whether outputs see different channels."""
        return getattr(self, "groups", 1) > 1


class BcosLinear(Bcos, nn.Linear):
    """The B-cos form of a linear layer; acts on the last axis."""

    channels = -1

    def norms(self, x: Tensor, *rest: Any) -> Tensor:
        return x.norm(dim=-1, keepdim=True) + 1e-12


class BcosConv2d(Bcos, nn.Conv2d):
    """The B-cos form of torch's convolution, on `(b, c, h, w)`."""


class BcosStridedConv(Bcos, StridedConv):
    """The B-cos form of the strided convolution of embeddings and between stages, on `(b, *grid, c)`."""

    channels = -1


class BcosDepthwiseConv(Bcos, DepthwiseConv):
    """The B-cos form of a convolution of every channel on its own, on `(b, *grid, c)`."""

    channels = -1

    @property
    def inputs(self) -> int:
        return len(self.weight)

    @property
    def separate(self) -> bool:
        return True


FORMS: dict[type, type] = {
    nn.Linear: BcosLinear,
    nn.Conv2d: BcosConv2d,
    StridedConv: BcosStridedConv,
    DepthwiseConv: BcosDepthwiseConv,
}
"""Each layer's B-cos form."""
