"""Padding, packing and documents are one type: which document each token belongs to, 0 for padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anyformer.core.errors import SizeError


@dataclass(frozen=True)
class Segments:
    """`ids` `(b, *grid)` of integers: 0 is padding, 1, 2, ... are documents. Tokens see only their own document."""

    ids: Tensor

    @staticmethod
    def from_lengths(lengths: Sequence[int] | Tensor, size: int, side: str = "right") -> Segments:
        """Rows of `size` tokens of which the first (or, with side="left", the last) `lengths` are valid."""
        lengths = torch.as_tensor(lengths)
        if bool((lengths > size).any()) or bool((lengths < 0).any()):
            raise SizeError(f"lengths lie between 0 and the row's {size} tokens; given {lengths.tolist()}.")
        steps = torch.arange(size, device=lengths.device)
        valid = steps < lengths[:, None] if side == "right" else steps >= size - lengths[:, None]
        return Segments(valid.long())

    @staticmethod
    def from_mask(valid: Tensor) -> Segments:
        """From a mask `(b, *grid)` that is true (or 1) at valid tokens."""
        return Segments(valid.long())

    @property
    def valid(self) -> Tensor:
        """`(b, *grid)`, true at tokens that are not padding."""
        return self.ids != 0

    def flat(self) -> Segments:
        """The same over a sequence: `(b, tokens)`."""
        return Segments(self.ids.flatten(1))

    def pairs(self, keys: Segments | None = None) -> Tensor:
        """`(b, 1, queries, keys)`, true where a query may see a key: the same document, and not padding."""
        q = self.ids.flatten(1)
        k = q if keys is None else keys.ids.flatten(1)
        return ((q[:, :, None] == k[:, None, :]) & (k != 0)[:, None, :])[:, None]

    def starts(self) -> Tensor:
        """`(b, tokens)`, true at the first token of each document."""
        ids = self.ids.flatten(1)
        before = torch.nn.functional.pad(ids, (1, 0))[:, :-1]
        return (ids != before) & (ids != 0)

    def positions(self) -> Tensor:
        """`(b, tokens)`: position of each token inside its own document, from 0; 0 at padding."""
        ids = self.ids.flatten(1)
        steps = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        first = torch.where(self.starts(), steps, torch.zeros_like(steps)).cummax(1).values
        return (steps - first) * (ids != 0)

    def zero(self, x: Tensor) -> Tensor:
        """`x` `(b, *grid, c)` with padded tokens set to zero."""
        return x.masked_fill(~self.valid[..., None], 0)
