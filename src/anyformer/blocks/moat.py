"""A block whose convolution stands before its attention, in the place of an MLP."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import Block
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class MOAT(Block):
    """x + conv(norm(x)), then x + mixer(norm(x)): `(b, *grid, c)` to the same shape. There is no channel mixer.

    Yang et al. 2022, arXiv:2210.01820, section 2.2: the convolution mixes channels as an MLP would, and places across
    the borders of windows, so that windows need no shift.

    Args:
        dim: channels.
        mixer: attention.
        conv: a token mixer, e.g. Spec("mbconv").
        norm: norm before the mixer.
        conv_norm: norm before the convolution.
        residual: how each joins the stream.
        grid, causal, layer, layers, drop_path, dropout: as `TwoBranch`'s.
    """

    name = "moat"
    papers = ("moat",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        conv: Spec = Spec("mbconv"),
        norm: Spec = Spec("layernorm"),
        conv_norm: Spec = Spec("batchnorm", eps=1e-3, momentum=0.01),
        residual: Spec = Spec("add"),
        grid: Sequence[int | None] | None = None,
        causal: bool = False,
        layer: int = 0,
        layers: int = 1,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        place = {"dim": dim, "grid": grid, "causal": causal, "layer": layer, "layers": layers}
        joins = {"dim": dim, "drop_path": drop_path, "dropout": dropout}
        self.norm1 = build(conv_norm, "norm", dim=dim)
        self.conv = build(conv, "mixer", **place)
        self.residual1 = build(residual, "residual", **joins)
        self.norm2 = build(norm, "norm", dim=dim)
        self.mixer = build(mixer, "mixer", **place)
        self.residual2 = build(residual, "residual", **joins)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = self.residual1(x, self.conv(self.norm1(x), segments))
        return self.residual2(x, self.mixer(self.norm2(x), segments))
