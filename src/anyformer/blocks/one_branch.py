"""A layer with one branch: a token mixer or a channel mixer, so that a stack can hold them in any order and number."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.block import PlacedBlock, mix_channels
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State


def patterned(pattern: str, letters: dict[str, tuple[str, dict[str, Spec]]], norm: Spec) -> dict[str, Any]:
    """`depth` and `block` of a decoder whose layers have one branch each, in the order of a string's letters.

    Args:
        pattern: the layers, a letter each.
        letters: of each letter its name, and the option of `OneBranch` that it stands for.
        norm: before every layer.

    Raises:
        OptionError: another letter, or none.
    """
    if not pattern or set(pattern) - set(letters):
        *first, last = (f"{letter} ({name})" for letter, (name, _) in letters.items())
        raise OptionError(f"a pattern is letters {', '.join(first)} and {last}, at least one; given {pattern!r}.")
    return {"depth": len(pattern), "block": [Spec("one_branch", **letters[letter][1], norm=norm) for letter in pattern]}


class OneBranch(PlacedBlock):
    """x + f(norm(x)), f a token mixer or a channel mixer.

    As Waleffe et al. 2024, arXiv:2406.07887, section 2.1, build hybrids of Mamba-2, attention and MLP. A channel mixer
    keeps the state that it has, or none.

    Args:
        dim: channels.
        mixer, ffn: token mixer or channel mixer; one of them.
        norm: before it.
        residual: how it joins the stream.
    """

    name = "one_branch"
    papers = ("mamba2_hybrid",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec | None = None,
        ffn: Spec | None = None,
        norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        **options: Any,
    ):
        super().__init__(dim, **options)
        if (mixer is None) == (ffn is None):
            given = "neither" if mixer is None else "both"
            raise OptionError(f"one_branch takes a mixer or an ffn; given {given}: prenorm has room for both.")
        self.norm = build(norm, "norm", dim=dim)
        self.mixer = self.place.build(mixer, "mixer") if mixer is not None else None
        self.ffn = self.place.build(ffn, "ffn") if ffn is not None else None
        self.residual = self.place.build(residual, "residual")

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        y = self.norm(x)
        y = self.mixer(y, segments) if self.mixer is not None else mix_channels(self.ffn, y, segments)
        return self.residual(x, y)

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        if self.mixer is not None:
            return {"mixer": self.mixer.init_state(batch, like=like)}
        return {"ffn": self.ffn.init_state(batch, like=like)} if getattr(self.ffn, "stateful", False) else {}

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        y, new = self.norm(x), {}
        if self.mixer is not None:
            y, new["mixer"] = self.mixer.extend(y, state["mixer"])
        elif "ffn" in state:
            y, new["ffn"] = self.ffn.extend(y, state["ffn"])
        else:
            y = mix_channels(self.ffn, y, None)
        return self.residual(x, y), new
