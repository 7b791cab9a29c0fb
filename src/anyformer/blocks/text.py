"""Tokens of text before the first block: embeddings, positions, their norm. Shared by all sequence skeletons."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

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
        norm: norm of the sum.
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
        norm: Spec | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vocab_size = vocab_size
        self.embed = build(embed, "embed", dim=dim, vocab_size=vocab_size)
        self.types = build(Spec("token"), "embed", dim=dim, vocab_size=types) if types else None
        self.position = build(position, "position", dim=dim, grid=(max_length,)) if position is not None else None
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
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
            x = x + self.types(torch.zeros_like(ids) if types is None else types)
        if self.position is not None:
            if positions is None and segments is not None:
                positions = segments.positions()
            x = self.position(x, positions)
        x = x if self.norm is None else self.norm(x)
        return self.dropout(x)


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
