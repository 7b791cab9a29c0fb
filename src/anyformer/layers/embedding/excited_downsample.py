"""Between stages: a depthwise convolution, channels weighed by their means, and a strided convolution."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.convolution.fused_mbconv import SqueezeExcite
from anyformer.layers.embedding.patch import StridedConv


class ExcitedDownsample(Part):
    """conv(norm(W SE(act(DW(x))))), the last of stride 2: `(b, *grid, inputs)` to `(b, *grid / 2, dim)`.

    Zidi et al. 2025 (LoLA-SpecViT), arXiv:2506.17759, after GC ViT's downsampling without its shortcut. Odd sides are
    rounded up. Cost: tokens inputs (3^rank + dim) + smaller tokens 3^rank dim^2 multiply-adds.

    Args:
        inputs, dim: channels in and out.
        excite: squeezed channels of the gate, per channel.
        norm: after the linear map W.
        act: after the depthwise convolution.
        rank: axes of the grid.
        what: who asks, for messages.
    """

    name = "excited"
    kind = "downsample"
    papers = ("lola_specvit",)
    tiny = {"inputs": 8, "excite": 0.5}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        excite: float = 1 / 16,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("silu"),
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.depthwise = DepthwiseConv(inputs, kernel=3, bias=False, std=3 ** (-rank / 2), grid=(None,) * rank)
        self.act = build(act, "act")
        self.gate = SqueezeExcite(inputs, ratio=excite, act=Spec("relu"))
        self.widen = init.linear(inputs, dim, bias=False, std=inputs**-0.5)
        self.norm = build(norm, "norm", dim=dim)
        self.project = StridedConv(
            dim, dim, kernel=3, stride=2, padding=1, rest="drop", bias=False, std=(3**rank * dim) ** -0.5, rank=rank,
            what=what,
        )  # fmt: skip

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.project.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *half c"]:
        return self.project(self.norm(self.widen(self.gate(self.act(self.depthwise(x))))))
