"""From token ids to vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.init import PUBLISHED, published
from anyformer.core.part import Part


class TokenEmbedding(Part):
    """A learned vector per token id, times `scale`: `(b, n)` integers to `(b, n, dim)`.

    Args:
        dim: channels.
        vocab_size: number of ids.
        scale: factor of the vectors (sqrt(dim) in Vaswani et al. 2017, section 3.4).
        std: deviation of the first values; None: 0.02, or with `init="fan_in"` dim^-0.5.
    """

    name = "token"
    kind = "embed"
    tiny = {"vocab_size": 11}

    def __init__(self, dim: int, *, vocab_size: int, scale: float = 1.0, std: float | None = None):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))
        if not self.weight.is_meta:
            nn.init.normal_(self.weight, std=std or (PUBLISHED if published() else dim**-0.5))

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        x = nn.functional.embedding(ids, self.weight)
        return x if self.scale == 1.0 else x * self.scale
