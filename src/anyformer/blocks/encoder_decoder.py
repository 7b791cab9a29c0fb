"""The encoder-decoder skeleton: one sequence in, another out."""

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
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State


class EncoderDecoder(Model):
    """Source ids `(b, m)` and target ids `(b, n)` to logits of the next target id `(b, n, vocab_size)`.

    Vaswani et al. 2017, arXiv:1706.03762, figure 1.

    Args:
        dim: channels.
        encoder, decoder: blocks of each side; the decoder's has `cross`, e.g. Spec("cross_attention", heads=8).
        encoder_depth, decoder_depth: how many.
        vocab_size: number of ids, one vocabulary for both sides; 0 for sequences that are vectors already, which
            enter as `(b, n, dim)` with their positions, and leave as the decoder's tokens.
        max_length: longest sequence of learned positions.
        embed, position: tokens and absolute positions, shared by both sides.
        encoder_norm, decoder_norm: norms of the last blocks' outputs (pre-norm blocks need them).
        tie: the head uses the embedding's vectors.
        head_bias: a bias of the head.
        start, end: ids that begin and end a target.
        drop_path, dropout: as `Isotropic`'s.
        init: as `Isotropic`'s.
    """

    name = "encoder_decoder"
    papers = ("transformer",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        encoder: Spec | Sequence[Spec],
        decoder: Spec | Sequence[Spec],
        encoder_depth: int = 6,
        decoder_depth: int = 6,
        vocab_size: int = 37000,
        max_length: int = 512,
        embed: Spec = Spec("token"),
        position: Spec | None = Spec("sinusoidal"),
        encoder_norm: Spec | None = None,
        decoder_norm: Spec | None = None,
        tie: bool = True,
        head_bias: bool = False,
        start: int = 1,
        end: int = 2,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.vocab_size, self.max_length = vocab_size, max_length
        self.start, self.end = start, end
        self.embedding = None
        if vocab_size:
            self.embedding = TextEmbedding(
                dim, vocab_size=vocab_size, max_length=max_length, embed=embed, position=position, dropout=dropout
            )
        common = {"dim": dim, "grid": (max_length,), "dropout": dropout}
        self.encoder = Stack(encoder, encoder_depth, drop_path=growing(drop_path, encoder_depth), **common)
        self.decoder = Stack(decoder, decoder_depth, causal=True, drop_path=growing(drop_path, decoder_depth), **common)
        self.encoder_norm = build(encoder_norm, "norm", dim=dim) if encoder_norm is not None else None
        self.decoder_norm = build(decoder_norm, "norm", dim=dim) if decoder_norm is not None else None
        self.dim = dim
        self.head = None if tie or not vocab_size else linear(dim, vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size)) if head_bias and vocab_size else None

    @property
    def tied(self) -> dict[str, str]:
        """Names that checkpoints may have for what is one parameter here."""
        return {"head.weight": "embedding.embed.weight"} if self.head is None else {}

    def embed(self, ids: Tensor, segments: Segments | None = None, positions: Tensor | None = None) -> Tensor:
        """Ids to tokens; without a vocabulary, vectors as they are."""
        if self.embedding is None:
            return ids
        check_ids(ids, self.vocab_size)
        return self.embedding(ids, segments, positions=positions)

    def encode(self, source: Int[Tensor, "b m"], source_segments: Segments | None = None) -> Float[Tensor, "b m c"]:
        """The encoder's output."""
        return self.encode_tokens(self.embed(source, source_segments), source_segments)

    def encode_tokens(self, x: Float[Tensor, "b m c"], segments: Segments | None = None) -> Float[Tensor, "b m c"]:
        """The encoder's output for embedded tokens."""
        x = self.encoder(x, *self._source(x, segments))
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def decode_tokens(
        self,
        x: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        segments: Segments | None = None,
        memory_segments: Segments | None = None,
    ) -> Float[Tensor, "b n c"]:
        """The decoder's output for embedded tokens and an encoder's output."""
        x = self.decoder(x, segments, memory, memory_segments, *self.shared("decoder", x))
        return x if self.decoder_norm is None else self.decoder_norm(x)

    def shared(
        self, side: Literal["encoder", "decoder"], x: Float[Tensor, "b n c"], seen: Int[Tensor, "b"] | None = None
    ) -> tuple[Any, ...]:
        """What a model that has something for all blocks of a side gives them, beside tokens and what these look at.

        Args:
            side: whose blocks.
            x: their tokens.
            seen: how many tokens came before, of a decoder that goes on.
        """
        return ()

    def _source(self, x: Tensor, segments: Segments | None) -> tuple[Any, ...]:
        """What the encoder's blocks get beside tokens; they look at no memory."""
        shared = self.shared("encoder", x)
        return (segments, None, None, *shared) if shared else (segments,)

    def logits(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n v"]:
        """Scores of the next id from tokens; without a vocabulary, the tokens."""
        if self.embedding is None:
            return x
        weight = self.embedding.embed.weight if self.head is None else self.head.weight
        return nn.functional.linear(x, weight, self.head_bias)

    def forward(
        self,
        source: Int[Tensor, "b m"],
        target: Int[Tensor, "b n"],
        source_segments: Segments | None = None,
        target_segments: Segments | None = None,
    ) -> Float[Tensor, "b n v"]:
        memory = self.encode(source, source_segments)
        x = self.embed(target, target_segments)
        return self.logits(self.decode_tokens(x, memory, target_segments, source_segments))

    def features(
        self, source: Int[Tensor, "b m"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b m c"]]:
        """The encoder's tokens after the chosen blocks; with `layers=None`, its output."""
        if layers is None:
            return [self.encode(source, segments)]
        x = self.embed(source, segments)
        return self.encoder.outputs(x, layers, *self._source(x, segments))

    # -- one token after the other ------------------------------------------------------------------------

    def init_state(self, source: Int[Tensor, "b m"], source_segments: Segments | None = None) -> State:
        """The state before the first target token: what the decoder remembers of the source."""
        memory = self.encode(source, source_segments)
        blocks = self.decoder.init_state(len(source), like=memory, memory=memory, memory_segments=source_segments)
        return {"seen": torch.zeros(len(source), dtype=torch.long, device=source.device), "blocks": blocks}

    def extend_tokens(self, ids: Int[Tensor, "b n"], state: State) -> tuple[Float[Tensor, "b n c"], State]:
        """The decoder's tokens of target `ids` after `state`, and the new state."""
        positions = state["seen"][:, None] + torch.arange(ids.shape[1], device=ids.device)
        x = self.embed(ids, positions=positions)
        x, blocks = self.decoder.extend(x, state["blocks"], *self.shared("decoder", x, state["seen"]))
        x = x if self.decoder_norm is None else self.decoder_norm(x)
        return x, {"seen": state["seen"] + ids.shape[1], "blocks": blocks}

    def extend(self, ids: Int[Tensor, "b n"], state: State) -> tuple[Float[Tensor, "b n v"], State]:
        """Logits of target `ids` after `state`, equal to `forward` over the whole target, and the new state."""
        x, state = self.extend_tokens(ids, state)
        return self.logits(x), state

    def generate(self, source: Tensor, source_segments: Segments | None = None, **options) -> Tensor:
        """Targets of sources; see `anyformer.methods.decoding.generate`."""
        from anyformer.methods.decoding.generate import generate, running

        start = torch.full((len(source), 1), self.start, dtype=torch.long, device=source.device)
        with running(self):
            state = self.init_state(source, source_segments)
        return generate(self, start, state=state, **{"end": self.end, **options})

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        length = example_length(size, self.max_length)
        if not self.vocab_size:
            vectors = torch.randn(2, batch, length, self.dim, device=self.device)
            return vectors[0], vectors[1]
        ids = torch.randint(0, self.vocab_size, (2, batch, length), device=self.device)
        return ids[0], ids[1]
