"""Reactive Transformer: a conversation in turns, which a memory of fixed size carries from one to the next.

Filipek 2025, arXiv:2510.03561. The sizes of RxT-Alpha Nano are those of its model card; the cards of the larger
models do not say how their memories are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack, growing
from anyformer.blocks.text import TextEmbedding, check_ids, example_length
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State, check_batch
from anyformer.layers.attention.memory.slots import Gate, LayerExchange, MemoryAttention

PAPERS = ("rxt",)
NOISE = 0.01
"""Deviation of a memory in which nothing was written; slots that were equal would stay so."""


class ReactiveTransformer(Model):
    """Ids `(b, n)` to logits of the next id `(b, n, vocab_size)`, one turn after the other.

    In a turn the decoder sees the turn's own tokens and, in each layer, that layer's memory slots. Behind it a
    bidirectional encoder reads the whole turn, and attention from the slots to what it gives writes the memory. So time
    and memory of a turn do not grow with the turns before it; a conversation costs in proportion to its turns.

    A memory is `(b, depth, slots, dim)`. `forward` takes rows of any length as turns of `turn` ids;
    `methods/decoding/conversation.py` runs a conversation, whose turns are `read` and then `update`.

    Args:
        dim, depth: channels; layers of the decoder, of the encoder and of the memory.
        decoder: block of the decoder, with a cross-attention that reads slots.
        encoder: block of the encoder.
        slots, heads, head_dim: of the memory, and of the attention that writes it.
        gate: form of the gate, as `MemoryAttention`'s.
        writing: "simple", or "interlayer": the slots of a layer first take from the mean over layers (`LayerExchange`).
        vocab_size: number of ids.
        turn: ids of a turn at most.
        max_length: ids of the rows that it is trained on; it binds nothing, rows may have any number of turns.
        embed, norm, last_norm: tokens, for both sides; norm of the memory; norm of the decoder's output.
        tie: the head uses the embedding's vectors.
        head_bias: bias of the head (untied only).
        drop_path, dropout, init: as `Isotropic`'s.

    Raises:
        SizeError: a memory that does not fit, a turn that is too long.
        DataError: a memory update without an answer.
    """

    name = "reactive_transformer"
    papers = ("rxt",)
    blank: Tensor

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        decoder: Spec,
        encoder: Spec,
        slots: int = 64,
        heads: int = 4,
        head_dim: int | None = None,
        gate: Gate = "sigmoid",
        writing: Literal["simple", "interlayer"] = "simple",
        turn: int = 256,
        vocab_size: int = 256,
        max_length: int = 1024,
        embed: Spec = Spec("token"),
        norm: Spec = Spec("rmsnorm"),
        last_norm: Spec | None = Spec("rmsnorm"),
        tie: bool = True,
        head_bias: bool = False,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        if slots < 1 or turn < 1:
            raise OptionError(f"{self.name} has a slot and a token of a turn at least; given {slots} and {turn}.")
        self.vocab_size, self.max_length, self.turn = vocab_size, max_length, turn
        self.embedding = TextEmbedding(dim, vocab_size=vocab_size, max_length=max_length, embed=embed, dropout=dropout)
        common: dict[str, Any] = {"dim": dim, "grid": (turn,), "dropout": dropout}
        rates = growing(drop_path, depth)
        self.decoder = Stack(decoder, depth, causal=True, drop_path=rates, **common)
        self.encoder = Stack(encoder, depth, causal=False, drop_path=rates, **common)
        self.memory = nn.ModuleList(
            MemoryAttention(dim, slots, heads=heads, head_dim=head_dim, gate=gate, norm=norm) for _ in range(depth)
        )
        between = writing == "interlayer"
        self.exchange = LayerExchange(dim, slots, depth, heads=heads, head_dim=head_dim, norm=norm) if between else None
        self.norm = nn.Identity() if last_norm is None else build(last_norm, "norm", dim=dim)
        self.head = None if tie else linear(dim, vocab_size, head_bias)
        self.register_buffer("blank", NOISE * torch.randn(depth, slots, dim))

    # -- one turn ------------------------------------------------------------------------------------------

    def init_memory(self, batch: int) -> Float[Tensor, "b l s c"]:
        """A memory in which nothing was written."""
        return self.blank.expand(batch, -1, -1, -1)

    def check_memory(self, memory: Tensor, batch: int) -> None:
        """Raise `SizeError` where a memory is not one of this model and of so many rows."""
        fits = (batch, *self.blank.shape)
        if tuple(memory.shape) != fits:
            raise SizeError(
                f"a memory of this model for {batch} rows is (rows, layers, slots, channels) = {fits}; given "
                f"{tuple(memory.shape)}: init_memory({batch}) makes one."
            )

    def check_turn(self, length: int) -> None:
        """Raise `SizeError` where a turn is too long."""
        if length > self.turn:
            raise SizeError(
                f"a turn has {self.turn} ids at most; given {length}: cut it into turns, or build the model with "
                f"turn={length}."
            )

    def outputs(
        self, ids: Int[Tensor, "b n"], memory: Float[Tensor, "b l s c"], segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        """The decoder's tokens of one turn after each block."""
        check_ids(ids, self.vocab_size)
        self.check_turn(ids.shape[1])
        self.check_memory(memory, len(ids))
        x, found = self.embedding(ids), []
        for block, slots in zip(self.decoder, memory.unbind(1), strict=True):
            x = self.decoder.run(block, x, segments, slots)
            found.append(x)
        return found

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n v"]:
        """Scores of the next id from the decoder's tokens."""
        return nn.functional.linear(x, self.embedding.embed.weight) if self.head is None else self.head(x)

    def read(
        self, ids: Int[Tensor, "b n"], memory: Float[Tensor, "b l s c"], segments: Segments | None = None
    ) -> Float[Tensor, "b n v"]:
        """Logits of one turn, which sees the memory and nothing else of the turns before."""
        return self.logits(self.norm(self.outputs(ids, memory, segments)[-1]))

    def update(
        self,
        query: Int[Tensor, "b n"],
        answer: Int[Tensor, "b m"],
        memory: Float[Tensor, "b l s c"],
        segments: Segments | None = None,
    ) -> Float[Tensor, "b l s c"]:
        """The memory after a turn of this query and answer; `segments` are of both, one behind the other."""
        if answer.shape[1] == 0:
            raise DataError(
                f"a memory is written after the answer; given a query of shape {tuple(query.shape)} and an answer of "
                f"shape {tuple(answer.shape)}: answer first."
            )
        return self.write(torch.cat([query, answer], 1), memory, segments)

    def write(
        self, ids: Int[Tensor, "b n"], memory: Float[Tensor, "b l s c"], segments: Segments | None = None
    ) -> Float[Tensor, "b l s c"]:
        """The memory after a turn of these ids."""
        check_ids(ids, self.vocab_size)
        self.check_turn(ids.shape[1])
        self.check_memory(memory, len(ids))
        x, new = self.embedding(ids), []
        memory = memory if self.exchange is None else self.exchange(memory)
        for block, write, slots in zip(self.encoder, self.memory, memory.unbind(1), strict=True):
            x = self.encoder.run(block, x, segments)
            new.append(write(slots, x, segments))
        return torch.stack(new, 1)

    # -- many turns ----------------------------------------------------------------------------------------

    def turns(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> list[list[Tensor]]:
        """The decoder's tokens after each block, for each turn of a row."""
        memory, found = self.init_memory(len(ids)), []
        pieces = ids.split(self.turn, 1)
        valid = [None] * len(pieces)
        if segments is not None:
            valid = [Segments(piece) for piece in segments.ids.split(self.turn, 1)]
        for i, (piece, own) in enumerate(zip(pieces, valid, strict=True)):
            found.append(self.outputs(piece, memory, own))
            if i < len(pieces) - 1:
                memory = self.write(piece, memory, own)
        return found

    def tokens(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        """The decoder's tokens after the last block and norm."""
        return self.norm(torch.cat([turn[-1] for turn in self.turns(ids, segments)], 1))

    def forward(self, ids: Int[Tensor, "b n"], segments: Segments | None = None) -> Float[Tensor, "b n v"]:
        return self.logits(self.tokens(ids, segments))

    def features(
        self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        """The decoder's tokens after the chosen blocks; with `layers=None`, after the last one and norm."""
        if layers is None:
            return [self.tokens(ids, segments)]
        depth = len(self.decoder)
        if any(not -depth <= i < depth for i in layers):
            raise OptionError(f"layers lie between {-depth} and {depth - 1}; given {list(layers)}.")
        turns = self.turns(ids, segments)
        return [torch.cat([turn[i] for turn in turns], 1) for i in layers]

    # -- a conversation ------------------------------------------------------------------------------------

    def init_state(self, batch: int, memory: Float[Tensor, "b l s c"] | None = None) -> State:
        """The state before the first token of a turn, with what the decoder remembers of the memory."""
        memory = self.init_memory(batch) if memory is None else memory
        self.check_memory(memory, batch)
        like = self.embedding.embed.weight
        blocks = [
            block.init_state(batch, like=like, memory=slots)
            for block, slots in zip(self.decoder, memory.unbind(1), strict=True)
        ]
        return {"seen": torch.zeros(batch, dtype=torch.long, device=like.device), "blocks": blocks}

    def extend(self, ids: Int[Tensor, "b n"], state: State) -> tuple[Float[Tensor, "b n v"], State]:
        """Logits of `ids` after `state`, in the same turn, and the new state."""
        check_ids(ids, self.vocab_size)
        check_batch(state, len(ids), self.name)
        x, blocks = self.decoder.extend(self.embedding(ids), state["blocks"])
        return self.logits(self.norm(x)), {"seen": state["seen"] + ids.shape[1], "blocks": blocks}

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        length = example_length(size, self.max_length)
        return (torch.randint(0, self.vocab_size, (batch, length), device=self.device),)


def rxt(
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    *,
    slots: int,
    turn: int,
    vocab_size: int,
    max_length: int,
    dropout: float = 0.0,
) -> Spec:
    """A Reactive Transformer with gated channel mixers."""
    common: dict[str, Any] = {"ffn": Spec("gated_mlp", hidden=hidden), "norm": Spec("rmsnorm")}
    mixer = Spec("attention", heads=heads, bias=False, rotation=Spec("rotary", layout="interleaved"))
    return Spec(
        "reactive_transformer",
        dim=dim,
        depth=depth,
        decoder=Spec("prenorm", mixer=mixer, cross=Spec("rotary_cross_attention", heads=heads), **common),
        encoder=Spec("prenorm", mixer=mixer, **common),
        slots=slots,
        heads=heads,
        turn=turn,
        vocab_size=vocab_size,
        max_length=max_length,
        dropout=dropout,
    )


def rxt_alpha(dim: int, depth: int, heads: int, experts: int, hidden: int, encoder_hidden: int, slots: int) -> Spec:
    """An RxT-Alpha: half of the heads that would fill the channels, experts in the decoder, layers' memories that meet.

    Args:
        dim, depth, heads: channels; layers; heads of all attention.
        experts, hidden: experts of the decoder's channel mixers, two of which mix a token; hidden channels of each.
        encoder_hidden: hidden channels of the encoder's.
        slots: of each layer's memory; ids of a turn are as many.
    """
    norm = Spec("rmsnorm", eps=torch.finfo(torch.float32).eps)
    sparse: dict[str, Any] = {"heads": heads, "head_dim": dim // (2 * heads)}
    mixer = Spec("attention", **sparse, bias=False, rotation=Spec("rotary", layout="interleaved"))
    cross = Spec("rotary_cross_attention", **sparse, norm=norm)
    ffn = Spec("routed_experts", experts=experts, k=2, hidden=hidden, bias=True)
    return Spec(
        "reactive_transformer",
        dim=dim,
        depth=depth,
        decoder=Spec("prenorm", mixer=mixer, cross=cross, ffn=ffn, norm=norm),
        encoder=Spec("prenorm", mixer=mixer, ffn=Spec("gated_mlp", hidden=encoder_hidden, bias=True), norm=norm),
        slots=slots,
        **sparse,
        gate="mixing",
        writing="interlayer",
        turn=slots,
        vocab_size=7500,
        max_length=4 * slots,
        norm=norm,
        last_norm=None,
        tie=False,
        head_bias=True,
    )


VARIANTS = {
    "rxt_alpha_nano": rxt_alpha(128, 6, 4, experts=12, hidden=256, encoder_hidden=384, slots=256),
    # Ours, for bytes and for tests.
    "rxt_micro": rxt(48, 2, 4, 96, slots=16, turn=32, vocab_size=256, max_length=256).set(init="fan_in"),
}
