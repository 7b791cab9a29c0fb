"""Attention whose queries and keys know positions, and whose values do not."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads, split_dim


class PositionedAttention(nn.Module):
    """softmax((x + p) W_q ((m + r) W_k)^T / sqrt(d)) m W_v: positions are added anew in every layer, to all but values.

    Carion et al. 2020 (DETR), arXiv:2005.12872, appendix A.3, figure 10. From tokens `x` with positions `p` to a
    memory `m` with positions `r`; both may be the same. Cost: 2 queries keys c + 2 (queries + keys) c^2 multiply-adds.

    Args:
        dim: channels of both sequences.
        heads: attention heads.
        scoring: from scores to outputs.
    """

    def __init__(self, dim: int, *, heads: int, scoring: Spec = Spec("softmax")):
        super().__init__()
        self.head_dim = split_dim(dim, heads, None, "positioned attention")
        self.query, self.key, self.value, self.out = (init.linear(dim, dim) for _ in range(4))
        self.scoring = build(scoring, "scoring", heads=heads)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        memory: Float[Tensor, "b m c"],
        x_position: Float[Tensor, "#b n c"] | None = None,
        memory_position: Float[Tensor, "#b m c"] | None = None,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """Tokens out of the memory; its places where `valid` is false are not looked at."""
        q = self._heads(self.query(x if x_position is None else x + x_position))
        k = self._heads(self.key(memory if memory_position is None else memory + memory_position))
        mask = None if valid is None else valid[:, None, None, :]
        return self.out(merge_heads(self.scoring(q, k, self._heads(self.value(memory)), mask=mask)))

    def _heads(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n d"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
