"""Two causal mixers, one reading the tokens from each end."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class Bidirectional(TokenMixer):
    """The sum of two causal mixers of one kind, the second reading the tokens in reverse order.

        y = f(x) + reverse(g(reverse(x)))

    Every token sees every other, so that a recurrence serves images and encoders; bidirectional RNNs (Schuster and
    Paliwal 1997) did so first, and Zhu et al. 2024 (arXiv:2401.09417) for Mamba. f and g share no weights. Cost: twice
    the mixer's.

    Args:
        dim: channels.
        mixer: a mixer that is or can be causal, built once for each direction.
        grid: passed to the mixer, where it asks for it.
        layer, layers: passed to the mixer, where it asks for them.
    """

    name = "bidirectional"
    ranks = (1, 2, 3)
    causality = "never"
    packing = True
    tiny = {"mixer": Spec("mamba", state=4)}

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec = Spec("mamba"),
        grid: Sequence[int | None] | None = None,
        layer: int = 0,
        layers: int = 1,
    ):
        super().__init__()
        place = {"dim": dim, "grid": grid, "causal": True, "layer": layer, "layers": layers}
        self.ahead = build(mixer, "mixer", **place)
        self.back = build(mixer, "mixer", **place)
        for fact in ("ranks", "cost", "padding", "packing", "fixed_grid"):
            setattr(self, fact, getattr(self.ahead, fact))

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        """Mix the tokens from both ends; `segments` keep documents apart in both."""
        axes = tuple(range(1, x.ndim - 1))
        reverse = None if segments is None else Segments(segments.ids.flip(tuple(range(1, segments.ids.ndim))))
        return self.ahead(x, segments) + self.back(x.flip(axes), reverse).flip(axes)
