"""Between stages, and at the beginning: a mobile block that strides, without a shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.conv_stem import ConvStem
from anyformer.layers.embedding.patch import StridedConv

NORM = Spec("batchnorm", eps=1e-6)


class MobileDownsample(Part):
    """g * W2 act(norm(DW(act(W1 norm(x))))): `(b, *grid, inputs)` to `(b, *half, dim)`, a learned scale g per channel.

    The first block of every stage of EMOv2: Zhang et al. 2024, arXiv:2412.06674, section 3, which widens twice as
    much as the others. Cost: tokens ratio inputs (inputs + (kernel^rank + dim) / stride^rank) multiply-adds.

    Args:
        inputs, dim: channels in and out.
        ratio: hidden channels per channel of the input.
        kernel, stride: of the depthwise convolution.
        norm, act: of the input, and of the widened tokens.
        scale: where g starts.
        rank: axes of the grid.
        what: who asks, for messages.
    """

    name = "mobile_downsample"
    kind = "downsample"
    papers = ("emo_v2",)
    tiny = {"inputs": 4}
    folds: ClassVar[dict[str, str]] = {"depthwise": "local_norm"}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        ratio: float = 8.0,
        kernel: int = 5,
        stride: int = 2,
        norm: Spec = NORM,
        act: Spec = Spec("silu"),
        scale: float = 1e-6,
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        hidden = int(inputs * ratio)
        self.norm = build(norm, "norm", dim=inputs)
        self.widen = init.linear(inputs, hidden)
        self.act = build(act, "act")
        self.depthwise = _depthwise(hidden, kernel, stride, rank, what)
        self.local_norm = build(NORM, "norm", dim=hidden)
        self.local_act = build(Spec("silu"), "act")
        self.down = init.linear(hidden, dim, bias=False)
        self.scale = nn.Parameter(torch.full((dim,), float(scale)))

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.depthwise.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller d"]:
        h = self.act(self.widen(self.norm(x)))
        h = self.local_act(self.local_norm(self.depthwise(h)))
        return self.scale * self.down(h)


class MobileStem(Part):
    """A convolution of stride 2, a depthwise one, a linear map, and the first stage's strided block: images to tokens.

    `(b, channels, *size)` to `(b, *size / 4, dim)`. Zhang et al. 2024 (EMOv2), arXiv:2412.06674, section 3.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        width: channels before the strided block (None: half of dim).
        stride: of the first convolution.
        downsample: the strided block.
        rank: axes of the image.
        what: who asks, for messages.
    """

    name = "mobile_stem"
    kind = "embed"
    papers = ("emo_v2",)
    tiny = {"in_channels": 3}
    folds: ClassVar[dict[str, str]] = {"depthwise": "norm"}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        width: int | None = None,
        stride: int = 2,
        downsample: Spec = Spec("mobile_downsample"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        width = dim // 2 if width is None else width
        once: dict[str, Any] = {"widths": (), "strides": (stride,), "out_norm": NORM, "out_act": Spec("silu")}
        self.stem = ConvStem(width, in_channels=in_channels, rank=rank, what=what, **once)
        self.depthwise = _depthwise(width, 3, 1, rank, what)
        self.norm = build(NORM, "norm", dim=width)
        self.act = build(Spec("silu"), "act")
        self.project = init.linear(width, width, bias=False)
        self.downsample = build(downsample, "downsample", inputs=width, dim=dim, rank=rank, what=what)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return self.downsample.grid(self.stem.grid(size))

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = self.act(self.norm(self.depthwise(self.stem(images))))
        return self.downsample(self.project(x))


def _depthwise(dim: int, kernel: int, stride: int, rank: int, what: str) -> StridedConv:
    """Each channel on its own; its few inputs keep the scale of the tokens with a deviation of kernel^(-rank / 2)."""
    return StridedConv(
        dim, dim, kernel=kernel, stride=stride, padding=kernel // 2, groups=dim, rest="drop", bias=False,
        std=kernel ** (-rank / 2), rank=rank, what=what,
    )  # fmt: skip
