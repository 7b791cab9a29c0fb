"""Attention to one's own tokens and to those that earlier blocks of the stage hand on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.biased import BiasedAttention
from anyformer.layers.attention.projection import merge_heads


class ForwardCrossAttention(BiasedAttention):
    """softmax(q [k, k_s]^T / sqrt(d) + [B, B_s]) [v, v_s]: keys and values also of the cross tokens s, scaled before.

    Cross tokens are summaries of earlier blocks' maps. They are multiplied by a learned factor each (LSF), normed, and
    go through the same linear layer as the tokens; B_s is a learned bias for each head and cross token. Zhang et al.
    2022 (FcaFormer), arXiv:2211.07198, section 3. Without cross tokens, `BiasedAttention`. Cost: that of
    `BiasedAttention`, and tokens s c + 2 s c^2 multiply-adds more for s cross tokens, s linear in `earlier`.

    Args:
        dim: channels.
        heads: attention heads.
        earlier: blocks whose cross tokens it sees.
        summary: tokens along each axis that become one cross token.
        norm: of the cross tokens.
        grid: the grid that the part is built for.
        options: the others of `BiasedAttention`.

    Raises:
        OptionError: a grid that is not known; a negative number of blocks.
        SizeError: tokens of another grid, or another number of cross tokens.
    """

    name = "forward_cross"
    papers = ("fcaformer",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        earlier: int = 0,
        summary: int = 4,
        norm: Spec = Spec("layernorm"),
        grid: Sequence[int | None] = (None, None),
        **options: Any,
    ):
        super().__init__(dim, heads=heads, grid=grid, **options)
        if earlier < 0 or summary < 1:
            raise OptionError(
                f"{self.name}: earlier blocks are none or more, and a cross token stands for 1 token or more a side; "
                f"given earlier={earlier}, summary={summary}."
            )
        self.cross = earlier * math.prod(math.ceil(side / summary) for side in self.grid)
        self.cross_norm = build(norm, "norm", dim=dim) if self.cross else None
        self.cross_scale = nn.Parameter(torch.ones(self.cross, 1)) if self.cross else None
        self.cross_bias = nn.Parameter(torch.zeros(heads, 1, self.cross)) if self.cross else None

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        cross: Float[Tensor, "b s c"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        given = 0 if cross is None else cross.shape[1]
        if given != self.cross:
            raise SizeError(
                f"{self.name} was built for {self.cross} cross tokens; given {given}: forward takes those of all "
                "earlier blocks of the stage, as fca_stage hands them on."
            )
        norm, scale, cross_bias = self.cross_norm, self.cross_scale, self.cross_bias
        if cross is None or norm is None or scale is None or cross_bias is None:
            return super().forward(x, segments)
        tokens = self.sequence(x)
        count = tokens.shape[1]
        both = torch.cat([tokens, norm(cross * scale)], 1)
        q, k, v = self.heads_of(both)
        bias = cross_bias.expand(-1, count, -1)
        own = self.bias() if self.bias is not None else bias.new_zeros(self.heads, count, count)
        mask = None
        if segments is not None:
            mask = nn.functional.pad(segments.flat().valid, (0, self.cross), value=True)[:, None, None]
        y = self.scoring(q[:, :, :count], k, v, bias=torch.cat([own, bias], -1), mask=mask)
        return self.out(merge_heads(y)).view_as(x)
