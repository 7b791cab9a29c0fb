"""Categorical features to tokens: the sum of an embedding of each."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.core.errors import DataError
from anyformer.core.init import trunc_normal
from anyformer.core.part import Part


class CategoryEmbedding(Part):
    """The sum over features of the embedding of each one's category: `(*b, f)` to `(*b, c)`.

    Hu et al. 2020 (Open Graph Benchmark), arXiv:2005.00687, embed atoms and bonds so.

    Args:
        dim: channels.
        features: how many a token has.
        values: categories of each, from 0; a negative number stands for a token that is padding.
        offset: rows at the start of the table that belong to padding; without one padding is embedded as category 0.
    """

    name = "categories"
    kind = "embed"
    papers = ("graphormer", "graph_transformer")

    def __init__(self, dim: int, *, features: int = 1, values: int = 512, offset: int = 0):
        super().__init__()
        self.features, self.values = features, values
        self.table = nn.Parameter(trunc_normal(torch.empty(offset + features * values, dim)))
        self.first: Tensor
        self.register_buffer("first", offset + values * torch.arange(features), persistent=False)

    def forward(self, ids: Int[Tensor, "*b f"]) -> Float[Tensor, "*b c"]:
        self._check(ids)
        return self.table[torch.where(ids < 0, 0, ids + self.first)].sum(-2)

    def _check(self, ids: Tensor) -> None:
        if ids.shape[-1] != self.features:
            raise DataError(f"each token has {self.features} feature(s); given {ids.shape[-1]}.")
        if not torch.compiler.is_compiling() and ids.numel() and int(ids.max()) >= self.values:
            raise DataError(
                f"features are categories 0 to {self.values - 1}; given {int(ids.max())}: build the model with more "
                "values, or number the categories anew."
            )
