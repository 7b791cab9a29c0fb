"""Blocks: a token mixer and a channel mixer around a residual stream, normed before, after, or inside the branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State


class Block(Part):
    """Tokens `(b, *grid, c)` to the same shape; what a stack repeats."""

    kind = "block"

    def forward(self, x: Tensor, segments: Segments | None = None) -> Tensor:
        raise NotImplementedError

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        """The state before the first token; a decoder's block also remembers the encoder's output."""
        raise NotImplementedError(f"{self.name} keeps no state")

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Continue with tokens `(b, n, c)`; equal to `forward` over the whole sequence."""
        raise NotImplementedError(f"{self.name} keeps no state")


STANDING = ("dim", "grid", "causal", "layer", "layers")
TOLD = {
    "mixer": STANDING,
    "ffn": STANDING,
    "residual": ("dim", "drop_path", "dropout"),
    "block": (*STANDING, "drop_path", "dropout"),
}
"""What of a block's place each kind of part is told; any other kind only its channels."""


@dataclass(frozen=True)
class Place:
    """Where a block stands: what a stack tells it, and it hands on to its parts.

    Attributes:
        dim: channels.
        grid: of its tokens; None where nobody knows it.
        causal: its tokens look at earlier ones only.
        layer, layers: its number in the model, from 0, and of how many.
        drop_path, dropout: rates at which branches, and values of them, are dropped in training.
    """

    dim: int
    grid: Sequence[int | None] | None = None
    causal: bool = False
    layer: int = 0
    layers: int = 1
    drop_path: float = 0.0
    dropout: float = 0.0

    def build(self, spec: Any, kind: str, **other: Any) -> Any:
        """The part that a slot of this kind asks for, told what of the place concerns it; `other` comes first."""
        return build(spec, kind, **{name: getattr(self, name) for name in TOLD.get(kind, ("dim",))} | other)


def mix_channels(ffn: Any, x: Float[Tensor, "b *grid c"], segments: Segments | None) -> Float[Tensor, "b *grid c"]:
    """What a channel mixer makes of tokens; it is told of segments where it sees neighbours."""
    return ffn(x) if getattr(ffn, "per_token", True) else ffn(x, segments)


def check_per_token(block: Any, hint: str = "") -> None:
    """Raise `FitError` where a block's channel mixer looks at neighbours; `hint` says what to do."""
    if not getattr(block.ffn, "per_token", True):
        raise FitError(
            f"{block.name} takes a channel mixer that acts on each token alone, such as mlp; given "
            f"{block.ffn.name}{hint}."
        )


class PlacedBlock(Block):
    """A block that is told its place, whose attributes are its options, and keeps it for its parts: `self.place`."""

    def __init__(
        self,
        dim: int,
        *,
        grid: Sequence[int | None] | None = None,
        causal: bool = False,
        layer: int = 0,
        layers: int = 1,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.place = Place(dim, grid, causal, layer, layers, drop_path, dropout)


class TwoBranch(PlacedBlock):
    """x -> join(x, mixer), then x -> join(x, ffn); with `cross`, attention to another sequence between the two.

    Args:
        dim: channels.
        mixer: token mixer.
        ffn: channel mixer; None for blocks that are a mixer alone (Mamba, gMLP).
        cross: attention to an encoder's output, e.g. Spec("cross_attention", heads=8).
        norm: norm of each branch.
        residual: how a branch joins the stream, e.g. Spec("add"), Spec("layer_scale").
        grid, causal, layer, layers: passed to the mixers, where they ask for them.
        drop_path, dropout: passed to the residual.
    """

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        ffn: Spec | None = Spec("mlp"),
        cross: Spec | None = None,
        norm: Spec = Spec("layernorm"),
        residual: Spec = Spec("add"),
        **options: Any,
    ):
        super().__init__(dim, **options)
        place = self.place
        self.norm1 = build(norm, "norm", dim=dim)
        self.mixer = place.build(mixer, "mixer")
        self.residual1 = place.build(residual, "residual")
        self.cross = build(cross, "cross", dim=dim) if cross is not None else None
        if cross is not None:
            self.norm_cross = build(norm, "norm", dim=dim)
            self.residual_cross = place.build(residual, "residual")
        self.ffn = place.build(ffn, "ffn") if ffn is not None else None
        if ffn is not None:
            self.norm2 = build(norm, "norm", dim=dim)
            self.residual2 = place.build(residual, "residual")

    def branch(self, x: Tensor, norm: nn.Module, body: Callable[[Tensor], Tensor], residual: nn.Module) -> Tensor:
        """One branch around the stream."""
        raise NotImplementedError

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        memory: Float[Tensor, "b m c"] | None = None,
        memory_segments: Segments | None = None,
        bias: Float[Tensor, "b h n n"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        if bias is None:
            x = self.branch(x, self.norm1, lambda y: self.mixer(y, segments), self.residual1)
        elif getattr(self.mixer, "pair_bias", False):
            x = self.branch(x, self.norm1, lambda y: self.mixer(y, segments, bias=bias), self.residual1)
        else:
            raise FitError(
                f"this model tells its mixers of pairs of tokens, and {self.mixer.name} has no place for that: "
                "take one with pair_bias, such as attention, or leave those encodings out."
            )
        if self.cross is not None:
            known = self.cross.remember(memory, memory_segments)
            x = self.branch(x, self.norm_cross, lambda y: self.cross.attend(y, known), self.residual_cross)
        return self.channels(x, segments)

    def channels(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        """The branch of the channel mixer, where there is one."""
        if self.ffn is None:
            return x
        return self.branch(x, self.norm2, lambda y: mix_channels(self.ffn, y, segments), self.residual2)

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        state = {"mixer": self.mixer.init_state(batch, like=like)}
        if getattr(self.ffn, "stateful", False):
            state["ffn"] = self.ffn.init_state(batch, like=like)
        if self.cross is not None:
            state["cross"] = self.cross.remember(memory, memory_segments)
        return state

    def extend(
        self, x: Float[Tensor, "b n c"], state: State, bias: Float[Tensor, "b h n m"] | None = None
    ) -> tuple[Tensor, State]:
        """Continue after `state`; `bias` is of the pairs of these tokens and all up to them."""
        if bias is None:
            return self.go_on(x, state, self.mixer.extend)
        return self.go_on(x, state, lambda y, old: self.mixer.extend(y, old, bias=bias))

    def go_on(
        self, x: Float[Tensor, "b n c"], state: State, mixer: Callable[[Tensor, State], tuple[Tensor, State]]
    ) -> tuple[Tensor, State]:
        """`extend`, with what the mixer does of its tokens and its state."""
        new = dict(state)

        def mix(y: Tensor) -> Tensor:
            out, new["mixer"] = mixer(y, state["mixer"])
            return out

        def look(y: Tensor) -> Tensor:
            out, new["cross"] = self.cross.extend(y, state["cross"])
            return out

        def channels(y: Tensor) -> Tensor:
            out, new["ffn"] = self.ffn.extend(y, state["ffn"])
            return out

        x = self.branch(x, self.norm1, mix, self.residual1)
        if self.cross is not None:
            x = self.branch(x, self.norm_cross, look, self.residual_cross)
        if "ffn" in state:
            return self.branch(x, self.norm2, channels, self.residual2), new
        return self.channels(x), new


class PreNorm(TwoBranch):
    """x + f(norm(x)): the norm before each branch (GPT-2, ViT, Swin)."""

    name = "prenorm"
    papers = ("metaformer",)

    def branch(self, x: Tensor, norm: nn.Module, body: Callable[[Tensor], Tensor], residual: nn.Module) -> Tensor:
        return residual(x, body(norm(x)))


class PostNorm(TwoBranch):
    """norm(x + f(x)): the norm after each sum. Vaswani et al. 2017, arXiv:1706.03762; BERT."""

    name = "postnorm"
    papers = ("transformer",)

    def branch(self, x: Tensor, norm: nn.Module, body: Callable[[Tensor], Tensor], residual: nn.Module) -> Tensor:
        return norm(residual(x, body(x)))


class ResPostNorm(TwoBranch):
    """x + norm(f(x)): the norm at the end of each branch. Liu et al. 2021 (Swin V2), arXiv:2111.09883, section 3.2."""

    name = "respostnorm"
    papers = ("swin_v2",)

    def branch(self, x: Tensor, norm: nn.Module, body: Callable[[Tensor], Tensor], residual: nn.Module) -> Tensor:
        return residual(x, norm(body(x)))


class OneMixer(PlacedBlock):
    """A token mixer, and `join`, which says what becomes of its output. Arguments as `TwoBranch`'s."""

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        residual: Spec = Spec("add"),
        **options: Any,
    ):
        super().__init__(dim, **options)
        self.mixer = self.place.build(mixer, "mixer")
        self.residual = self.place.build(residual, "residual")

    def join(self, x: Float[Tensor, "b *grid c"], mixed: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        """The block's output from its input and what the mixer made of it; acts on each token alone."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.join(x, self.mixer(x, segments))

    def init_state(self, batch: int, *, like: Tensor, memory: Tensor | None = None, memory_segments=None) -> State:
        return {"mixer": self.mixer.init_state(batch, like=like)}

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        mixed, new = self.mixer.extend(x, state["mixer"])
        return self.join(x, mixed), {"mixer": new}


class SingleBranch(OneMixer):
    """x + ffn(norm(mixer(x))): one branch, with the token mixer first and one norm inside.

    Liu et al. 2022 (ConvNeXt), arXiv:2201.03545, figure 4. Arguments as `TwoBranch`'s.
    """

    name = "single_branch"
    papers = ("convnext",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec,
        ffn: Spec = Spec("mlp"),
        norm: Spec = Spec("layernorm"),
        **options: Any,
    ):
        super().__init__(dim, mixer=mixer, **options)
        self.norm = build(norm, "norm", dim=dim)
        self.ffn = self.place.build(ffn, "ffn")
        check_per_token(self, ": prenorm takes one that looks at neighbours")

    def join(self, x: Float[Tensor, "b *grid c"], mixed: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *grid c"]:
        return self.residual(x, self.ffn(self.norm(mixed)))
