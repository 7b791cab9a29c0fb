"""The scan's weights B and C, which every token chooses or none, in the layout of the blocked form."""

from __future__ import annotations

import torch
from torch import Tensor

Block = tuple[slice, slice]
"""Rows of the batch, and steps of time."""


class Constant:
    """Weights (D, N) that no token chooses, as (g, n, p)."""

    def __init__(self, weights: Tensor, groups: int, wide: torch.dtype):
        self.dtype = weights.dtype
        self.now = weights.to(wide).unflatten(0, (groups, -1)).transpose(1, 2).contiguous()
        self.found = torch.zeros_like(self.now)

    def at(self, block: Block) -> Tensor:
        """What multiplies states (t, r, g, n, p)."""
        return self.now

    def read(self, states: Tensor, block: Block) -> Tensor:
        """Sum of the weighted states over n: (t, r, g, p)."""
        return (states * self.now).sum(-2)

    def collect(self, states: Tensor, tokens: Tensor, block: Block) -> None:
        """Add this block's part of the weights' gradient, states times tokens (t, r, g, p)."""
        self.found += (states * tokens[..., None, :]).sum((0, 1))

    def gradient(self) -> Tensor:
        return self.found.transpose(1, 2).flatten(0, 1).to(self.dtype, memory_format=torch.contiguous_format)


class Selective:
    """Weights (b, L, N) or (b, L, G, N) that the tokens choose; methods as in `Constant`."""

    def __init__(self, weights: Tensor, groups: int, wide: torch.dtype):
        self.given = weights
        self.weights = weights if weights.ndim == 4 else weights[:, :, None]
        self.groups, self.wide = groups, wide
        self.found: Tensor | None = None

    def _rows(self, block: Block) -> Tensor:
        return self.weights[block].to(self.wide).transpose(0, 1).expand(-1, -1, self.groups, -1)

    def at(self, block: Block) -> Tensor:
        return self._rows(block)[..., None]

    def read(self, states: Tensor, block: Block) -> Tensor:
        return torch.matmul(self._rows(block)[..., None, :], states).squeeze(-2)

    def collect(self, states: Tensor, tokens: Tensor, block: Block) -> None:
        if self.found is None:
            self.found = torch.empty_like(self.weights, dtype=self.wide, memory_format=torch.contiguous_format)
        part = torch.matmul(states, tokens[..., None]).squeeze(-1).transpose(0, 1)
        self.found[block] = part.sum(2, keepdim=True) if self.found.shape[2] < self.groups else part

    def whole(self) -> Tensor:
        """The weights of all tokens, (b, L, G, N) in memory of their own."""
        return self.weights.to(self.wide).expand(-1, -1, self.groups, -1).contiguous()

    def narrow(self, gradient: Tensor) -> Tensor:
        """A gradient of `whole` as the weights were given."""
        if self.weights.shape[2] < self.groups:
            gradient = gradient.sum(2, keepdim=True)
        return gradient.to(self.given.dtype).view(self.given.shape)

    def gradient(self) -> Tensor:
        if self.found is None:
            return torch.zeros_like(self.given, memory_format=torch.contiguous_format)
        return self.found.to(self.given.dtype).view(self.given.shape)
