"""ViTAE's way to fewer tokens: dilated strided convolutions side by side, attention, and convolutions beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.convolution.parallel_convolution import Convolutions
from anyformer.layers.embedding.patch import StridedConv


class ReductionCell(Part):
    """Mixer of a pyramid of dilated convolutions, and beside it plain ones: `(b, *grid, inputs)` to `(b, *less, dim)`.

    P = the strided convolutions of x at each dilation, after GELU, side by side; y = mixer(norm(P + position(P))) +
    convolutions(x); y + mlp(norm(y)). Zhang et al. 2022 (ViTAEv2), arXiv:2202.10108. A grid that the ratio
    does not divide is filled with zeros at its end.

    Args:
        inputs, dim: channels in and out.
        mixer: from the channels of P to `dim`: one that takes `inputs`.
        ratio: how many times smaller each side gets; 1, or a power of 2 up to 8.
        width: channels of each strided convolution.
        kernel: their side.
        dilations: the dilation of each.
        position: of P, e.g. Spec("depthwise", kernel=7); None for none.
        hidden: channels inside the plain convolutions.
        groups: of the plain convolutions.
        ffn: the MLP.
        norm: both norms.
        rank: axes of the grid.
        what: who asks, for messages.

    Raises:
        OptionError: groups that do not divide the channels.
    """

    name = "reduction_cell"
    kind = "downsample"
    papers = ("vsa",)
    tiny = {"inputs": 8, "mixer": Spec("varied_size_window", heads=2, window=2), "width": 4, "dilations": (1, 2)}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        mixer: Spec,
        width: int,
        ratio: int = 2,
        kernel: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        position: Spec | None = Spec("depthwise", kernel=7, std=1 / 7),
        hidden: int | None = None,
        groups: int = 1,
        ffn: Spec = Spec("mlp", ratio=1.0),
        norm: Spec = Spec("layernorm"),
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.ratio = ratio
        self.pyramid = nn.ModuleList(
            StridedConv(
                inputs,
                width,
                kernel=kernel,
                stride=ratio,
                padding=math.ceil(((kernel - 1) * dilation + 1 - ratio) / 2),
                dilation=dilation,
                std=(kernel**rank * inputs) ** -0.5,
                rank=rank,
                what=what,
            )
            for dilation in dilations
        )
        wide, any_grid = width * len(dilations), (None,) * rank
        self.position = None if position is None else build(position, "mixer", dim=wide, grid=any_grid)
        self.norm1 = build(norm, "norm", dim=wide)
        self.mixer = build(mixer, "mixer", dim=dim, inputs=wide, grid=any_grid)
        hidden = width if hidden is None else hidden
        # Halve as often as the ratio asks for, beginning with the first.
        strides = [2 if ratio >> (i + 1) else 1 for i in range(3)]
        self.beside = Convolutions(inputs, (hidden, hidden, dim), strides=strides, groups=groups, rank=rank, what=what)
        self.norm2 = build(norm, "norm", dim=dim)
        self.ffn = build(ffn, "ffn", dim=dim)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return tuple(math.ceil(s / self.ratio) for s in size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *less c"]:
        size = x.shape[1:-1]
        missing = [g * self.ratio - s for g, s in zip(self.grid(size), size, strict=True)]
        if any(missing):
            x = nn.functional.pad(x, (0, 0, *(n for m in reversed(missing) for n in (0, m))))
        y = nn.functional.gelu(torch.cat([conv(x) for conv in self.pyramid], -1))
        if self.position is not None:
            y = y + self.position(y)
        y = self.mixer(self.norm1(y)) + self.beside(x)
        return y + self.ffn(self.norm2(y))


class ReductionStem(Part):
    """A `ReductionCell` on the pixels: images `(b, in_channels, *size)` to tokens `(b, *size / ratio, dim)`.

    Zhang et al. 2022 (ViTAEv2), arXiv:2202.10108.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        cell: the cell, e.g. Spec("reduction_cell", mixer=..., width=64, ratio=4, kernel=7).
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "reduction_stem"
    kind = "embed"
    papers = ("vsa",)
    tiny = {
        "in_channels": 3,
        "cell": Spec("reduction_cell", mixer=Spec("varied_size_window", heads=2, window=2), width=4, dilations=(1, 2)),
    }

    def __init__(self, dim: int, *, cell: Spec, in_channels: int = 3, rank: int = 2, what: str = "stem"):
        super().__init__()
        self.cell = build(cell, "downsample", inputs=in_channels, dim=dim, rank=rank, what=what)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.cell.grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        return self.cell(images.movedim(1, -1))
