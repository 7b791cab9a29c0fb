"""Blocks that norm the residual stream itself, not only its branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from anyformer.blocks.block import ResPostNorm, TwoBranch
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class MidNorm(TwoBranch):
    """x = norm2(x + mixer(norm1(x))), then x + ffn(x): the second norm acts on the stream between the branches.

    The layer of the Compact Transformers: Hassani et al. 2021, arXiv:2104.05704, as the authors' code has it.
    Arguments as `TwoBranch`'s.
    """

    name = "midnorm"
    papers = ("compact_transformers",)

    def branch(self, x: Tensor, norm: nn.Module, body: Callable[[Tensor], Tensor], residual: nn.Module) -> Tensor:
        y = norm(x)
        return residual(y if body is self.ffn else x, body(y))


class ResPostNormMain(ResPostNorm):
    """`ResPostNorm`, then a norm of the stream: what the largest Swin V2 models have after every sixth block.

    Liu et al. 2021 (Swin V2), arXiv:2111.09883, section 3.2. Arguments as `TwoBranch`'s, and:

    Args:
        main_norm: norm of the stream.
    """

    name = "respostnorm_main"
    papers = ("swin_v2",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        ffn: Spec | None = Spec("mlp"),
        norm: Spec = Spec("layernorm"),
        main_norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        grid: Sequence[int | None] | None = None,
        layer: int = 0,
        layers: int = 1,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__(
            dim,
            mixer=mixer,
            ffn=ffn,
            norm=norm,
            residual=residual,
            grid=grid,
            layer=layer,
            layers=layers,
            drop_path=drop_path,
            dropout=dropout,
        )
        self.norm_main = build(main_norm, "norm", dim=dim)

    def forward(self, x: Tensor, segments: Segments | None = None) -> Tensor:
        return self.norm_main(super().forward(x, segments))
