"""A stem of several small convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class DeepStem(Part):
    """3x3 convolutions, each with a norm, an activation between them: images to `(b, *size / strides, dim)`.

    With early convolutions training is steadier than with patches: Xiao et al. 2021, arXiv:2106.14881. RMT
    (arXiv:2309.11523, section 3.4) has four. Half as many channels up to the last convolution of stride 2.

    Args:
        dim: channels of a token.
        in_channels: channels of the image.
        strides: of each convolution, 1 or more.
        norm: after every convolution.
        act: after every convolution but the last.
        rank: axes of the image.
        what: who asks, for messages.

    Raises:
        OptionError: no convolution; a stride below 1.
        SizeError: an image without a pixel.
    """

    name = "deep_stem"
    kind = "embed"
    papers = ("rmt",)
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 1, 2, 1),
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("gelu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        if not strides or min(strides) < 1:
            raise OptionError(f"{self.name}: one stride of 1 or more for each convolution; given {tuple(strides)}.")
        last = max((i for i, s in enumerate(strides) if s > 1), default=0)
        widths = [in_channels, *(dim if i >= last else dim // 2 for i in range(len(strides)))]
        self.convs = nn.ModuleList(
            StridedConv(
                widths[i], widths[i + 1], kernel=3, stride=stride, padding=1, rest="drop",
                std=(2 / (3**rank * widths[i + 1])) ** 0.5, rank=rank, what=what,
            )
            for i, stride in enumerate(strides)
        )  # fmt: skip
        self.norms = nn.ModuleList(build(norm, "norm", dim=width) for width in widths[1:])
        self.act = build(act, "act")

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        grid = tuple(size)
        for conv in self.convs:
            grid = conv.grid(grid)
        return grid

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = images.movedim(1, -1)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x if i == 0 else self.act(x)))
        return x
