"""ConvMixer's block: activation and norm after each of its two linear maps, and a residual around the first only."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import Block
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.layers.feedforward.mlp import activated


class ConvMixerBlock(Block):
    """x -> join(x, norm(act(mixer(x)))), then x -> norm(act(W x)).

    Trockman and Kolter 2022, arXiv:2201.09792, equations 2 and 3, where the mixer is a depthwise convolution.

    Args:
        dim: channels.
        mixer: token mixer.
        act: activation of both maps.
        norm: norm of both.
        residual: how the mixer's branch joins the stream.
        grid, causal, layer, layers: passed to the mixer, where it asks for them.
        drop_path, dropout: passed to the residual.
    """

    name = "convmixer_block"
    papers = ("convmixer",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec = Spec("depthwise", kernel=9),
        act: Spec = Spec("gelu"),
        norm: Spec = Spec("batchnorm"),
        residual: Spec = Spec("add"),
        grid: Sequence[int | None] | None = None,
        causal: bool = False,
        layer: int = 0,
        layers: int = 1,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.mixer = build(mixer, "mixer", dim=dim, grid=grid, causal=causal, layer=layer, layers=layers)
        self.act1 = build(act, "act")
        self.norm1 = build(norm, "norm", dim=dim)
        self.residual = build(residual, "residual", dim=dim, drop_path=drop_path, dropout=dropout)
        # The variance of torch's own start, as the authors': a smaller one would leave the activation almost linear.
        self.linear = init.linear(dim, dim, std=(3 * dim) ** -0.5)
        self.act2 = build(act, "act")
        self.norm2 = build(norm, "norm", dim=dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        x = self.residual(x, self.norm1(self.act1(self.mixer(x, segments))))
        return self.norm2(activated(self.linear, self.act2, x))

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        return {"mixer": self.mixer.init_state(batch, like=like)}

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        y, mixed = self.mixer.extend(x, state["mixer"])
        x = self.residual(x, self.norm1(self.act1(y)))
        return self.norm2(activated(self.linear, self.act2, x)), {"mixer": mixed}
