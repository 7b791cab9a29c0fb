"""A stem of one or several convolutions, with norms and activations between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv

NORM = Spec("batchnorm")


class ConvStem(Part):
    """Convolutions of these widths, kernels and strides: images `(b, channels, *size)` to tokens `(b, *grid, dim)`.

    In place of patches, early convolutions make training steadier: Xiao et al. 2021, arXiv:2106.14881. A convolution
    that a norm follows starts by the number of its outputs (He et al. 2015, arXiv:1502.01852).

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        widths: channels after each convolution but the last, which has `dim`: a number of channels, or a share of
            `dim` where it is at most 1.
        kernels: side of each convolution, or one side for all; odd.
        strides: of each convolution; as many as there are convolutions.
        paddings: of each convolution (None: half its kernel).
        norm, act: after each convolution but the last; None for none.
        out_norm, out_act: after the last one; None for none.
        bias: of the convolutions; one for all, or of each.
        rank: axes of the image.
        what: who asks, for messages.

    Raises:
        OptionError: widths, kernels, strides and paddings that are not of equally many convolutions; a stride below 1.
        SizeError: an image without a pixel of the grid.
    """

    name = "conv_stem"
    kind = "embed"
    papers = ("raft", "rmt", "medvit_v2", "crossvit", "convnext", "dinat")
    tiny = {"in_channels": 3}
    folds: ClassVar[dict[str, str]] = {"convs": "norms"}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        widths: Sequence[float] = (0.5,),
        kernels: int | Sequence[int] = 3,
        strides: Sequence[int] = (2, 2),
        paddings: Sequence[int] | None = None,
        norm: Spec | None = NORM,
        act: Spec | None = Spec("relu"),
        out_norm: Spec | None = NORM,
        out_act: Spec | None = None,
        bias: bool | Sequence[bool] = True,
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        kernels = [kernels] * len(strides) if isinstance(kernels, int) else list(kernels)
        paddings = [kernel // 2 for kernel in kernels] if paddings is None else list(paddings)
        biases = [bias] * len(strides) if isinstance(bias, bool) else list(bias)
        counts = {len(widths) + 1, len(kernels), len(strides), len(paddings), len(biases)}
        if len(counts) > 1 or min(strides) < 1:
            raise OptionError(
                f"{self.name}: a kernel, a stride of 1 or more and a padding for each convolution, and a width for "
                f"each but the last; given widths {tuple(widths)}, kernels {tuple(kernels)}, strides {tuple(strides)}, "
                f"paddings {tuple(paddings)}, biases {tuple(biases)}."
            )
        channels = [in_channels, *(int(w * dim) if w <= 1 else int(w) for w in widths), dim]
        norms = [*[norm] * len(widths), out_norm]
        self.convs = nn.ModuleList(
            StridedConv(
                a, b, kernel=k, stride=s, padding=p, rest="drop", bias=biased,
                std=None if after is None else (2 / (b * k**rank)) ** 0.5, rank=rank, what=what,
            )
            for (a, b), k, s, p, biased, after in zip(
                pairwise(channels), kernels, strides, paddings, biases, norms, strict=True
            )
        )  # fmt: skip
        self.norms = nn.ModuleList(
            nn.Identity() if after is None else build(after, "norm", dim=width)
            for width, after in zip(channels[1:], norms, strict=True)
        )
        acts = [*[act] * len(widths), out_act]
        self.acts = nn.ModuleList(nn.Identity() if after is None else build(after, "act") for after in acts)

        self.stride = math.prod(strides)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        grid = tuple(size)
        for conv in self.convs:
            grid = conv.grid(grid)
        return grid

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = images.movedim(1, -1)
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(x)))
        return x
