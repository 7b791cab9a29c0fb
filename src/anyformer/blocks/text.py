"""What all sequence skeletons share: ids to tokens, and the stack of blocks that encoders and decoders both are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import DataError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec


class TextEmbedding(nn.Module):
    """Ids `(b, n)` to tokens `(b, n, c)`: embedding, plus segment types, plus positions, then norm and dropout.

    Args:
        dim, vocab_size, max_length: channels, ids, longest sequence (of learned positions and fixed mixers).
        embed: the embedding, e.g. Spec("token").
        position: absolute positions, e.g. Spec("learned"), Spec("sinusoidal").
        types: kinds of segment (BERT: 2); 0 for none.
        embed_norm: norm of the sum.
        dropout: share of values dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        vocab_size: int,
        max_length: int,
        embed: Spec = Spec("token"),
        position: Spec | None = None,
        types: int = 0,
        embed_norm: Spec | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vocab_size = vocab_size
        self.embed = build(embed, "embed", dim=dim, vocab_size=vocab_size)
        self.types = build(Spec("token"), "embed", dim=dim, vocab_size=types) if types else None
        self.position = build(position, "position", dim=dim, grid=(max_length,)) if position is not None else None
        self.norm = build(embed_norm, "norm", dim=dim) if embed_norm is not None else None
        self.dropout = nn.Dropout(dropout)

    @property
    def limit(self) -> int | None:
        """Tokens of the longest sequence that the positions allow; None where there is no end."""
        return getattr(self.position, "limit", None)

    def forward(
        self,
        ids: Int[Tensor, "b n"],
        segments: Segments | None = None,
        types: Int[Tensor, "b n"] | None = None,
        positions: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Positions start anew in each document of `segments`; `positions` overrides them."""
        x = self.embed(ids)
        if self.types is not None:
            same = types is None or len(self.types.weight) == 1  # RoBERTa's one kind is that of every text
            x = x + self.types(torch.zeros_like(ids) if same else types)
        if self.position is not None:
            if positions is None and segments is not None:
                positions = segments.positions()
            x = self.position(x, positions)
        x = x if self.norm is None else self.norm(x)
        return self.dropout(x)


class TextModel(Model):
    """Embed ids, repeat a block, norm; what becomes of the tokens is the subclass's. See `Decoder`, `Encoder`."""

    def __init__(
        self,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        *,
        norm: Spec | None,
        causal: bool,
        drop_path: float,
        dropout: float,
        vocab_size: int,
        max_length: int,
        **embedding: Any,
    ):
        super().__init__()
        self.vocab_size, self.max_length = vocab_size, max_length
        self.embedding = TextEmbedding(dim, vocab_size=vocab_size, max_length=max_length, dropout=dropout, **embedding)
        rates = growing(drop_path, depth)
        self.blocks = Stack(block, depth, dim=dim, grid=(max_length,), causal=causal, drop_path=rates, dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None

    def tokens(
        self, ids: Int[Tensor, "b n"], segments: Segments | None = None, types: Int[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n c"]:
        """Tokens after the last block and norm."""
        check_ids(ids, self.vocab_size)
        x = self.blocks(self.embedding(ids, segments, types), segments, *self.shared())
        return x if self.norm is None else self.norm(x)

    def shared(self) -> tuple[Any, ...]:
        """What a model that has something for all its blocks gives them, beside tokens and segments or the state."""
        return ()

    def features(
        self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None, segments: Segments | None = None
    ) -> list[Float[Tensor, "b n c"]]:
        """Tokens after the chosen blocks; with `layers=None`, after the last block and norm."""
        if layers is None:
            return [self.tokens(ids, segments)]
        return self.blocks.outputs(self.embedding(ids, segments), layers, segments, *self.shared())

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        shape = batch, example_length(size, self.max_length)
        return (torch.randint(0, self.vocab_size, shape, device=self.device),)


def example_length(size: int | Sequence[int] | None, longest: int) -> int:
    """Tokens of an example: `size`, or by default 64 where the model takes as many."""
    if size is None:
        return min(longest, 64)
    return size if isinstance(size, int) else size[0]


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise `DataError` where an id lies outside the vocabulary (not while compiling: it would break the graph)."""
    if torch.compiler.is_compiling() or not ids.numel():
        return
    if ids.is_floating_point():
        raise DataError(f"token ids are integers; given {str(ids.dtype).removeprefix('torch.')}.")
    low, high = (int(bound) for bound in ids.aminmax())
    if high >= vocab_size or low < 0:
        raise DataError(
            f"token ids lie between 0 and {vocab_size - 1}; given {low} to {high}: "
            "is this the tokenizer that the model was built for?"
        )
