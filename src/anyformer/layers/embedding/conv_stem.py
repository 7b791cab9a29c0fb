"""One wide convolution with norm and activation: the stem of encoders that keep half the resolution."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class ConvStem(Part):
    """Convolution, norm, activation: images `(b, channels, *size)` to tokens `(b, *size / stride, dim)`.

    ResNet's stem without its pooling; Teed and Deng 2020 (RAFT), arXiv:2003.12039, figure 7.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        kernel: side of the convolution; odd.
        stride: how many times smaller the grid is.
        norm, act: what follows it; `norm` None for none.
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "conv_stem"
    kind = "embed"
    papers = ("raft",)
    tiny = {"in_channels": 3, "kernel": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        kernel: int = 7,
        stride: int = 2,
        norm: Spec | None = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        self.conv = StridedConv(
            in_channels, dim, kernel=kernel, stride=stride, padding=kernel // 2, rest="drop", rank=rank, what=what
        )
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.act = build(act, "act")

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.conv.grid(size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = self.conv(images.movedim(1, -1))
        return self.act(x if self.norm is None else self.norm(x))
