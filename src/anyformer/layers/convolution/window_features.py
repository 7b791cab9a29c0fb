"""Convolutions of several widths over one sequence, side by side at every token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class WindowFeatures(Part):
    """act(conv_k(x)) for each kernel k, joined at every token: `(b, n, in_channels)` to `(b, n, dim)`.

    The window feature sequence of CTRAN (Rafiepour and Sartakhti 2023, arXiv:2303.10606): filters as TextCNN's
    (arXiv:1408.5882) that are not pooled, so that every token keeps its place. A window of even width reaches one
    token further to the right. Outside the sequence, and at padding, tokens count as zero. Cost: tokens in_channels
    dim times the mean kernel.

    Args:
        dim: channels out, shared out evenly.
        in_channels: channels in (None: dim).
        kernels: tokens that each share of the filters sees, in the order of their channels.
        act: activation.

    Raises:
        OptionError: kernels that do not divide `dim`, or below 1.
    """

    name = "window_features"
    kind = "embed"
    papers = ("ctran",)

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int | None = None,
        kernels: Sequence[int] = (1, 2, 3, 5),
        act: Spec = Spec("relu"),
    ):
        super().__init__()
        if not kernels or min(kernels) < 1 or dim % len(kernels):
            raise OptionError(
                f"{self.name} shares {dim} channels out evenly among kernels of 1 or more; given {tuple(kernels)}."
            )
        inputs, filters = dim if in_channels is None else in_channels, dim // len(kernels)
        self.kernels = tuple(kernels)
        self.convs = nn.ModuleList(
            StridedConv(inputs, filters, kernel=kernel, stride=1, rank=1, what=self.name) for kernel in kernels
        )
        self.act = build(act, "act")

    def forward(self, x: Float[Tensor, "b n i"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        x = x if segments is None else segments.zero(x)
        padded = (nn.functional.pad(x, (0, 0, (kernel - 1) // 2, kernel // 2)) for kernel in self.kernels)
        return torch.cat([self.act(conv(y)) for conv, y in zip(self.convs, padded, strict=True)], -1)
