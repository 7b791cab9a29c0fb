"""A stem of three convolutions, then average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv
from anyformer.layers.pooling.mixing import AVERAGES


class AveragedStem(Part):
    """Three 3x3 convolutions, the first of stride 2, each with norm and activation, then 2x2 means.

    Images to `(b, *size / 4, dim)`. Radford et al. 2021 (CLIP), arXiv:2103.00020, section 2.4, after He et al. 2018,
    arXiv:1812.01187, "ResNet-C".

    Args:
        dim: channels of a token; the first two convolutions give half as many.
        in_channels: channels of the image.
        norm, act: what follows each convolution.
        rank: axes of the image, 1 or 2.
        what: who asks, for messages.
    """

    name = "averaged_stem"
    kind = "embed"
    tiny = {"in_channels": 3}

    def __init__(
        self,
        dim: int,
        *,
        in_channels: int = 3,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("relu"),
        rank: int = 2,
        what: str = "stem",
    ):
        super().__init__()
        widths = (in_channels, dim // 2, dim // 2, dim)
        self.convs = nn.ModuleList(
            StridedConv(
                inputs, outputs, kernel=3, stride=1 if i else 2, padding=1, bias=False,
                std=(2 / (9 * outputs)) ** 0.5, rank=rank, what=what,
            )
            for i, (inputs, outputs) in enumerate(pairwise(widths))
        )  # fmt: skip
        self.norms = nn.ModuleList(build(norm, "norm", dim=width) for width in widths[1:])
        self.act = build(act, "act")

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of tokens of an image of this size."""
        return tuple((s + 1) // 4 for s in size)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *grid c"]:
        x = images.movedim(1, -1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        return AVERAGES[x.dim() - 2](x.movedim(-1, 1), 2).movedim(1, -1)
