"""Activations by their published names."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.part import Part
from anyformer.kernels.linear.fused import IN_PLACE
from anyformer.kernels.reuse import inference_on_cpu


class Activation(Part):
    """Acts on each number alone. `fused` is its name, or that of its first step, in `kernels.linear`, if it has one."""

    kind = "act"
    fused: str | None = None

    def finish(self, x: Tensor) -> Tensor:
        """What follows the fused first step; in inference on a CPU it may write over `x`, which is nobody else's."""
        return x

    def into(self, x: Tensor) -> Tensor:
        """`forward` in the memory of `x`, as `kernels.reuse.over` asks for it."""
        return self(x) if self.fused is None else self.finish(IN_PLACE[self.fused](x))


class GELU(Activation):
    """x Phi(x), exactly or with the tanh approximation (GPT-2). Hendrycks and Gimpel 2016, arXiv:1606.08415."""

    name = "gelu"

    def __init__(self, *, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        self.approximate = approximate
        self.fused = "gelu" if approximate == "none" else "gelu_tanh"

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)


class QuickGELU(Activation):
    """x sigmoid(1.702 x), the first approximation in arXiv:1606.08415, section 2 (CLIP)."""

    name = "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ReLU(Activation):
    """max(x, 0)."""

    name = "relu"
    fused = "relu"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyReLU(Activation):
    """max(x, slope x). Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models"."""

    name = "leaky_relu"

    def __init__(self, *, slope: float = 0.01):
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)


class SquaredReLU(Activation):
    """max(x, 0)^2. So et al. 2021 (Primer), arXiv:2109.08668."""

    name = "squared_relu"
    fused = "relu"

    def finish(self, x: Tensor) -> Tensor:
        return x.square_() if inference_on_cpu(x) else x.square()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class SiLU(Activation):
    """x sigmoid(x), also Swish."""

    name = "silu"
    fused = "silu"

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class HardSwish(Activation):
    """x relu6(x + 3) / 6. Howard et al. 2019 (MobileNetV3), arXiv:1905.02244, section 5.2."""

    name = "hard_swish"

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)


class Tanh(Activation):
    """tanh(x)."""

    name = "tanh"

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class StarReLU(Activation):
    """s max(x, 0)^2 + b with learned scalars that keep a unit normal at mean 0, variance 1 at the start.

    Yu et al. 2022, arXiv:2210.13452, equation 5: s = 0.8944, b = -0.4472.
    """

    name = "star_relu"
    fused = "relu"
    papers = ("metaformer_baselines",)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.8944]))
        self.bias = nn.Parameter(torch.tensor([-0.4472]))

    def finish(self, x: Tensor) -> Tensor:
        if inference_on_cpu(x):
            return torch.addcmul(self.bias, x, x, value=self.scale.item(), out=x)
        return self.scale * x.square() + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x).square() + self.bias
