"""A head that pools by attention: one query, from the mean, asks all tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.blocks.heads import Head
from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV, merge_heads


class AttentionPool(Head):
    """Attention of the mean token to itself and all others, then a linear map: `(b, *grid, c)` to `(b, num_classes)`.

    Radford et al. 2021 (CLIP), arXiv:2103.00020, section 2.4. With num_classes=0, the pooled vector `(b, c)`. Cost:
    3 tokens c^2 multiply-adds.

    Args:
        dim: channels.
        num_classes: outputs; 0 for none.
        heads: of the attention.
        grid: for which the learned positions are made; they are resized to others.
        scoring: from scores to outputs.
    """

    name = "attention_pool"
    tiny = {"heads": 2, "grid": (4, 4)}

    def __init__(
        self,
        dim: int,
        *,
        num_classes: int = 1000,
        heads: int = 32,
        grid: Sequence[int] = (7, 7),
        scoring: Spec = Spec("softmax"),
    ):
        super().__init__()
        self.position = build(Spec("learned", std=dim**-0.5), "position", dim=dim, grid=grid, prefix=1)
        self.qkv = QKV(dim, heads=heads, part=self.name)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.linear = init.linear(dim, num_classes) if num_classes else None

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, prefix: int = 0
    ) -> Float[Tensor, "b classes"]:
        grid, tokens = x.shape[1:-1], x.flatten(1, -2)
        tokens = self.position(torch.cat([tokens.mean(1, keepdim=True), tokens], 1), grid=grid)
        q, k, v = self.qkv(tokens)
        y = merge_heads(self.scoring(q[:, :, :1], k, v))[:, 0]
        return y if self.linear is None else self.linear(y)
