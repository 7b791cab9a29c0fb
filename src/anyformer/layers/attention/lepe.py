"""Attention among all tokens of a grid, and beside it a depthwise convolution of the values."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.convolution.depthwise import DepthwiseConv


class LePEAttention(TokenMixer):
    """W (softmax(q k^T / sqrt(d)) v + DW(v)): every token sees all, and its neighbours' values by their place.

    The convolution is CSWin's "locally-enhanced positional encoding" (Dong et al. 2021, arXiv:2107.00652, equation 7),
    here over the whole grid, as in the last stages of SMT (Lin et al. 2023, arXiv:2307.08579). Tokens that `segments`
    calls padding are not seen. Cost: 2 tokens^2 c + 4 tokens c^2 + tokens c local^rank multiply-adds. Ranks 1 to 3,
    any grid.

    Args:
        dim: channels.
        heads: attention heads.
        local: tokens along each axis that the convolution of the values covers; odd.
        scoring: from scores to outputs.
        grid: the grid that the part is built for; only its rank counts.

    Raises:
        SizeError: tokens on a grid of another rank, e.g. a row of h w tokens in place of (h, w).
        OptionError: heads that do not divide dim; an even `local`.
    """

    name = "lepe_attention"
    papers = ("smt",)
    ranks = (1, 2, 3)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        local: int = 3,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.rank = len(grid)
        self.qkv = QKV(dim, heads=heads, part=self.name)
        # Deviation local^(-rank / 2): the few inputs of a filter keep the scale of the values.
        self.local = DepthwiseConv(dim, kernel=local, std=local ** (-self.rank / 2), grid=grid)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        if x.dim() - 2 != self.rank:
            raise SizeError(
                f"{self.name} is built for a grid of {self.rank} axes, tokens (batch, {self.rank} axes, channels), as "
                f"distances lie on it; given {tuple(x.shape)}: unflatten the tokens to their grid."
            )
        q, k, v = self.qkv(x.flatten(1, -2))
        near = self.near(v, x, segments)
        return self.out(merge_heads(self.attend(q, k, v, x, segments)).view_as(x) + near)

    def near(
        self, v: Float[Tensor, "b h n d"], x: Float[Tensor, "b *grid c"], segments: Segments | None
    ) -> Float[Tensor, "b *grid c"]:
        """What every token gets from its neighbours."""
        return self.local(merge_heads(v).view_as(x), segments)

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n d"],
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None,
    ) -> Float[Tensor, "b h n d"]:
        """Mix the values of all places of the grid; `x` are the tokens that they come from."""
        return self.scoring(q, k, v, mask=None if segments is None else segments.pairs())
