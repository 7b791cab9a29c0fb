"""From a backbone's maps to those that a detector looks at: brought to one scale, joined, mixed by convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.decode import ConvNorm
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec

SCALES = (0.5, 1.0, 2.0)
"""How much finer a map can become."""


class C2f(nn.Module):
    """A 1x1 convolution to two halves, `depth` pairs of 3x3 ones after the second, all joined by a 1x1 convolution.

    YOLOv8's block, as LW-DETR has it: Chen et al. 2024, arXiv:2406.03459, section 3.1. `(b, h, w, inputs)` to
    `(b, h, w, dim)`.
    """

    def __init__(self, inputs: int, dim: int, *, depth: int = 3):
        super().__init__()
        half, act = dim // 2, Spec("silu")
        self.half = half
        self.split = ConvNorm(inputs, 2 * half, kernel=1, act=act)
        self.pairs = nn.ModuleList(
            nn.Sequential(ConvNorm(half, half, act=act), ConvNorm(half, half, act=act)) for _ in range(depth)
        )
        self.join = ConvNorm((2 + depth) * half, dim, kernel=1, act=act)

    def forward(self, x: Float[Tensor, "b h w i"]) -> Float[Tensor, "b h w c"]:
        found = list(self.split(x).split(self.half, -1))
        for pair in self.pairs:
            found.append(pair(found[-1]))
        return self.join(torch.cat(found, -1))


class ScaleProjector(nn.Module):
    """Maps `(b, dims[i], h, w)` of one size to a map `(b, h scale, w scale, dim)`.

    Args:
        dims: channels of the maps.
        dim: channels of the result.
        scale: 2.0 enlarges each map by a transposed convolution to half its channels (after halving them, above 512),
            0.5 halves it by a strided one, 1.0 leaves it.
        depth: pairs of convolutions.

    Raises:
        OptionError: another scale.
    """

    def __init__(self, dims: Sequence[int], dim: int, *, scale: float = 1.0, depth: int = 3):
        super().__init__()
        if scale not in SCALES:
            raise OptionError(f"a map is brought to a scale of {', '.join(map(str, SCALES))}; given {scale}.")
        self.resize = nn.ModuleList()
        widths = []
        for inputs in dims:
            layers: list[nn.Module] = []
            if scale == 2.0:
                if inputs > 512:
                    layers.append(ConvNorm(inputs, inputs // 2, kernel=1))
                    inputs //= 2
                layers.append(build("transposed_conv", "upsample", inputs=inputs, dim=inputs // 2, rank=2))
                inputs //= 2
            elif scale == 0.5:
                layers.append(ConvNorm(inputs, inputs, stride=2))
            self.resize.append(nn.Sequential(*layers))
            widths.append(inputs)
        self.mix = C2f(sum(widths), dim, depth=depth)
        self.norm = build(Spec("layernorm", eps=1e-6), "norm", dim=dim)

    def forward(self, maps: Sequence[Float[Tensor, "b i h w"]]) -> Float[Tensor, "b k l c"]:
        finer = [layers(m.movedim(1, -1)) for layers, m in zip(self.resize, maps, strict=True)]
        return self.norm(self.mix(torch.cat(finer, -1)))
