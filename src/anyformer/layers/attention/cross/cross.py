"""Attention from one sequence to another."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.layers.attention.projection import merge_heads, split_dim


class CrossAttention(Part):
    """Queries from a decoder's tokens, keys and values from an encoder's output.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3. Cost: 2 queries keys c + 2 (queries + keys) c^2
    multiply-adds; keys and values are computed once a sequence (`remember`).

    Args:
        dim: channels of the tokens.
        heads, head_dim: heads and their channels (None: dim / heads).
        memory_dim: channels of the other sequence (None: dim).
        bias, out_bias: biases of the projections in and out.
        scoring: from scores to outputs.
    """

    name = "cross_attention"
    kind = "cross"
    papers = ("transformer",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        memory_dim: int | None = None,
        bias: bool = True,
        out_bias: bool = True,
        scoring: Spec = Spec("softmax"),
    ):
        super().__init__()
        self.head_dim = split_dim(dim, heads, head_dim, self.name)
        wide = heads * self.head_dim
        self.query = init.linear(dim, wide, bias)
        self.key_value = init.linear(dim if memory_dim is None else memory_dim, 2 * wide, bias)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(wide, dim, out_bias)

    def remember(self, memory: Float[Tensor, "b m c"], segments: Segments | None = None) -> State:
        """Keys, values and valid places of the other sequence; part of a decoder's state."""
        memory = memory.flatten(1, -2)
        k, v = self.key_value(memory).unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        known = {"k": k, "v": v}
        if segments is not None:
            known["valid"] = segments.flat().valid
        return known

    def attend(self, x: Float[Tensor, "b *grid c"], known: State) -> Float[Tensor, "b *grid c"]:
        """Tokens with what they take from the remembered sequence."""
        q = self.query(x.flatten(1, -2)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        mask = known["valid"][:, None, None, :] if "valid" in known else None
        return self.out(merge_heads(self.scoring(q, known["k"], known["v"], mask=mask))).view_as(x)

    def extend(self, x: Float[Tensor, "b n c"], known: State) -> tuple[Float[Tensor, "b n c"], State]:
        """`attend`, and the state behind these tokens: the same, as it is the same sequence that they look at."""
        return self.attend(x, known), known

    def forward(
        self, x: Float[Tensor, "b *grid c"], memory: Float[Tensor, "b m c"], segments: Segments | None = None
    ) -> Float[Tensor, "b *grid c"]:
        """Both at once; `segments` are the memory's."""
        return self.attend(x, self.remember(memory, segments))
