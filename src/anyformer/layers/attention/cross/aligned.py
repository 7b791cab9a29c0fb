"""Cross-attention along the diagonal: each query looks at its own place of the other sequence, and nowhere else."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.errors import SizeError
from anyformer.core.part import Part
from anyformer.core.segments import Segments
from anyformer.core.state import State


class AlignedAttention(Part):
    """W_o W_v m_i for query i: cross-attention whose mask is 0 on the diagonal and -inf elsewhere.

    What makes CTRAN's decoder "aligned" (Rafiepour and Sartakhti 2023, arXiv:2303.10606): output i is of input i. A
    softmax over one key is 1, so heads, queries and keys change nothing, and are not here: this equals
    `CrossAttention` with that mask. It stands wherever cross-attention does. Cost: 2 tokens c^2 multiply-adds, once a
    sequence.

    Args:
        dim: channels of the tokens.
        memory_dim: channels of the other sequence (None: dim).
        bias, out_bias: biases of W_v and W_o.

    Raises:
        SizeError: more queries than places.
    """

    name = "aligned_attention"
    kind = "cross"
    papers = ("ctran",)

    def __init__(self, dim: int, *, memory_dim: int | None = None, bias: bool = True, out_bias: bool = True):
        super().__init__()
        self.value = init.linear(dim if memory_dim is None else memory_dim, dim, bias)
        self.out = init.linear(dim, dim, out_bias)

    def remember(self, memory: Float[Tensor, "b m c"], segments: Segments | None = None) -> State:
        """What is taken from each place, and how many queries came before: none. Padded places are their own."""
        memory = memory.flatten(1, -2)
        seen = torch.zeros(len(memory), dtype=torch.long, device=memory.device)
        return {"v": self.out(self.value(memory)), "seen": seen}

    def attend(self, x: Float[Tensor, "b *grid c"], known: State) -> Float[Tensor, "b *grid c"]:
        """What tokens take; the first one's place is `known["seen"]`."""
        values, count = known["v"], x[0, ..., 0].numel()
        first = 0 if torch.compiler.is_compiling() or not len(x) else int(known["seen"].max())
        if first + count > values.shape[1]:
            raise SizeError(
                f"{self.name} gives query i place i of the other sequence, which has {values.shape[1]}; given "
                f"{first + count} queries: both are of one length."
            )
        places = known["seen"][:, None] + torch.arange(count, device=x.device)
        return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1])).view_as(x)

    def extend(self, x: Float[Tensor, "b n c"], known: State) -> tuple[Float[Tensor, "b n c"], State]:
        """`attend`, and the state behind these tokens."""
        return self.attend(x, known), {**known, "seen": known["seen"] + x.shape[1]}

    def forward(
        self, x: Float[Tensor, "b *grid c"], memory: Float[Tensor, "b m c"], segments: Segments | None = None
    ) -> Float[Tensor, "b *grid c"]:
        """Both at once; `segments` are the memory's."""
        return self.attend(x, self.remember(memory, segments))
