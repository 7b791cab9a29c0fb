"""Between stages: a depthwise convolution of stride 2 between two linear layers, each with a norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class SeparableMerge(Part):
    """norm(W2 act(norm(DW(act(norm(W1 x)))))): `(b, *grid, inputs)` to `(b, *half, dim)`, wide from the start.

    The patch merging of TinyViT (Wu et al. 2022, arXiv:2207.10666, section 3.2) and FcaFormer. Cost: tokens dim (inputs
    + (kernel^rank + dim) / stride^rank) multiply-adds.

    Args:
        inputs, dim: channels in and out.
        kernel, stride: of the depthwise convolution.
        norm: after each of the three layers.
        act: after the first two.
        rank: axes of the grid.
        what: who asks, for messages.
    """

    name = "separable_merge"
    kind = "downsample"
    papers = ("tiny_vit", "fcaformer")
    tiny = {"inputs": 4}
    folds: ClassVar[dict[str, str]] = {"widen": "widen_norm", "depthwise": "depthwise_norm", "mix": "mix_norm"}

    def __init__(
        self,
        inputs: int,
        dim: int,
        *,
        kernel: int = 3,
        stride: int = 2,
        norm: Spec = Spec("batchnorm"),
        act: Spec = Spec("gelu"),
        rank: int = 2,
        what: str = "downsampling",
    ):
        super().__init__()
        self.widen = init.linear(inputs, dim, bias=False)
        self.widen_norm = build(norm, "norm", dim=dim)
        self.act = build(act, "act")
        # Deviation kernel^(-rank / 2): the few inputs of a filter keep the scale of the tokens.
        self.depthwise = StridedConv(
            dim, dim, kernel=kernel, stride=stride, padding=kernel // 2, groups=dim, rest="drop", bias=False,
            std=kernel ** (-rank / 2), rank=rank, what=what,
        )  # fmt: skip
        self.depthwise_norm = build(norm, "norm", dim=dim)
        self.mix = init.linear(dim, dim, bias=False)
        self.mix_norm = build(norm, "norm", dim=dim)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The grid that a map of this size becomes."""
        return self.depthwise.grid(size)

    def forward(self, x: Float[Tensor, "b *grid i"]) -> Float[Tensor, "b *smaller d"]:
        x = self.act(self.widen_norm(self.widen(x)))
        x = self.act(self.depthwise_norm(self.depthwise(x)))
        return self.mix_norm(self.mix(x))
