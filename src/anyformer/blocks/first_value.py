"""A decoder whose first layer hands its values on to all others (RWKV-7)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import PreNorm
from anyformer.blocks.decoder import Decoder
from anyformer.core.segments import Segments
from anyformer.core.state import State


class FirstValuePreNorm(PreNorm):
    """PreNorm whose mixer writes the first layer's values to `values` or reads them there, where it does so at all."""

    name = "first_value_prenorm"
    papers = ("synth_icl",)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        values: dict[str, list[Tensor]] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        if not getattr(self.mixer, "first_values", False):
            return super().forward(x, segments)
        x = self.branch(x, self.norm1, lambda y: self.mixer(y, segments, values=values), self.residual1)
        return self.channels(x, segments)

    def extend(  # type: ignore[override]
        self, x: Float[Tensor, "b n c"], state: State, values: dict[str, list[Tensor]] | None = None
    ) -> tuple[Tensor, State]:
        mixer = self.mixer.extend
        if not getattr(self.mixer, "first_values", False):
            return self.go_on(x, state, mixer)
        return self.go_on(x, state, lambda y, old: mixer(y, old, values=values))


class FirstValueDecoder(Decoder):
    """A decoder in which later layers see the values of the first; blocks are "first_value_prenorm".

    Peng et al. 2025 (RWKV-7), arXiv:2503.14456, equation 9. Mixers that do not, stand in it as in "decoder".
    Arguments as `Decoder`'s.
    """

    name = "first_value_decoder"
    papers = ("synth_icl",)

    def shared(self) -> tuple[Any, ...]:
        """An empty dictionary, for the values of one pass."""
        return ({},)
