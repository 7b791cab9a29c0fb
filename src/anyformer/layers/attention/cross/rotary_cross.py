"""Attention between a sequence, which has positions, and a set of slots, which has none."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.layers.attention.cross.cross import CrossAttention
from anyformer.layers.attention.projection import merge_heads


class RotaryCrossAttention(CrossAttention):
    """Cross-attention in which one side alone is rotated by its positions: a token's query, or an encoded token's key.

    What the Reactive Transformer reads and writes its memory with (Filipek 2025, arXiv:2510.03561, section 3): slots
    are a set, so that their order changes nothing. Cost: as `CrossAttention`'s.

    Args:
        dim, memory_dim, bias, options: as `CrossAttention`'s.
        rotate: the side that has positions.
        rotation: the rotation.
        norm: norm of the other sequence before its keys and values.
    """

    name = "rotary_cross_attention"
    papers = ("rxt",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        memory_dim: int | None = None,
        bias: bool = False,
        rotate: Literal["queries", "keys"] = "queries",
        rotation: Spec = Spec("rotary", layout="interleaved"),
        norm: Spec = Spec("rmsnorm"),
        **options: Any,
    ):
        super().__init__(dim, memory_dim=memory_dim, bias=bias, **options)
        self.rotate = rotate
        self.rotation = build(rotation, "rotation", head_dim=self.head_dim)
        self.norm = build(norm, "norm", dim=dim if memory_dim is None else memory_dim)

    def remember(self, memory: Float[Tensor, "b m c"], segments: Segments | None = None) -> State:
        """Keys, values and valid places of the other sequence, and how many queries came before: none."""
        known = super().remember(self.norm(memory), segments)
        if self.rotate == "keys":
            known["k"] = self.rotation(known["k"], None if segments is None else segments.positions())
        known["seen"] = torch.zeros(len(memory), dtype=torch.long, device=memory.device)
        return known

    def attend(self, x: Float[Tensor, "b *grid c"], known: State) -> Float[Tensor, "b *grid c"]:
        """Tokens with what they take; the first has the position `known["seen"]`."""
        tokens = x.flatten(1, -2)
        q = self.query(tokens).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        if self.rotate == "queries":
            q = self.rotation(q, known["seen"][:, None] + torch.arange(tokens.shape[1], device=x.device))
        mask = known["valid"][:, None, None, :] if "valid" in known else None
        return self.out(merge_heads(self.scoring(q, known["k"], known["v"], mask=mask))).view_as(x)

    def extend(self, x: Float[Tensor, "b n c"], known: State) -> tuple[Float[Tensor, "b n c"], State]:
        """`attend`, and the state behind these tokens, which counts them."""
        return self.attend(x, known), {**known, "seen": known["seen"] + x.shape[1]}
