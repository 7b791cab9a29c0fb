"""Manhattan self-attention: every head fades with the distance on the grid at a rate of its own."""

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


class ManhattanAttention(TokenMixer):
    """softmax(q k^T / sqrt(d) + log D) v + LCE(v): attention that fades with Manhattan distance, to all sides.

    D_nm = gamma^(|x_n - x_m| + |y_n - y_m|), and LCE, "local context enhancement", a depthwise convolution of the
    values. Fan et al. 2023 (RMT), arXiv:2309.11523, section 3.2. The paper multiplies the softmax by D (equation 4);
    its authors' code and weights add log D to the scores, so that the weights of a token still sum to 1, and so does
    this part. Queries and keys are rotated by their place in the raster. Tokens that `segments` calls padding are not
    seen. Cost: 2 tokens^2 c + 4 tokens c^2 + tokens c local^rank multiply-adds. Ranks 1 to 3, any grid.

    Args:
        dim: channels.
        heads: attention heads.
        decay: the bias log D, e.g. Spec("manhattan_decay", gammas=(0.9, 0.8)).
        rotation: rotation of queries and keys; None for none.
        local: tokens along each axis that the convolution of the values covers; odd.
        scoring: from scores to outputs.
        grid: the grid that the part is built for; only its rank counts.

    Raises:
        SizeError: tokens on a grid of another rank, e.g. a row of h w tokens in place of (h, w).
        OptionError: heads that do not divide dim; an odd number of channels a head; an even `local`.
    """

    name = "manhattan"
    papers = ("rmt",)
    ranks = (1, 2, 3)
    cost = 2.0
    tiny = {"heads": 2, "local": 3}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        decay: Spec = Spec("manhattan_decay"),
        rotation: Spec | None = Spec("retention_rotary", layout="interleaved"),
        local: int = 5,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.rank = len(grid)
        self.qkv = QKV(dim, heads=heads, part=self.name)
        self.decay = build(decay, "bias", heads=heads)
        self.rotation = build(rotation, "rotation", head_dim=self.qkv.head_dim) if rotation is not None else None
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
        if self.rotation is not None:
            q, k = self.rotation(q), self.rotation(k)
        near = self.local(merge_heads(v).view_as(x), segments)
        return self.out(merge_heads(self.attend(q, k, v, x.shape[1:-1], segments)).view_as(x) + near)

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n d"],
        grid: Sequence[int],
        segments: Segments | None,
    ) -> Float[Tensor, "b h n d"]:
        """Mix the values of all places of the grid."""
        mask = None if segments is None else segments.pairs()
        return self.scoring(q, k, v, bias=self.decay(grid), mask=mask)


class DecomposedManhattanAttention(ManhattanAttention):
    """Manhattan attention along the last axis of the grid, and of its outcome along the one before, and so on.

    Attn_H (Attn_W V)^T with the decay of each axis: Fan et al. 2023 (RMT), arXiv:2309.11523, equation 5. All axes
    have the same queries and keys. Cost: 2 tokens sum(axes) c + 4 tokens c^2 + tokens c local^rank multiply-adds,
    tokens^1.5 on a square. Arguments and errors as `ManhattanAttention`'s.
    """

    name = "decomposed_manhattan"
    papers = ("rmt",)
    ranks = (2, 3)
    cost = 1.5
    tiny = {"heads": 2, "local": 3}

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, grid: Sequence[int], segments: Segments | None
    ) -> Float[Tensor, "b h n d"]:
        q, k, v = (t.unflatten(2, tuple(grid)) for t in (q, k, v))
        for axis in reversed(range(len(grid))):
            mask = None
            if segments is not None:
                mask = segments.valid.movedim(axis + 1, -1).flatten(0, -2)[:, None, None]
            lines = _lines(v, axis)
            mixed = self.scoring(
                _lines(q, axis).flatten(0, -4),
                _lines(k, axis).flatten(0, -4),
                lines.flatten(0, -4),
                bias=self.decay.line(grid[axis]),
                mask=mask,
            )
            v = mixed.view(*lines.shape[:-3], *mixed.shape[1:]).movedim(-3, 1).movedim(-2, axis + 2)
        return v.flatten(2, -2)


def _lines(t: Float[Tensor, "b h *grid d"], axis: int) -> Float[Tensor, "b *others h n d"]:
    """The lines along one axis, each with all heads."""
    return t.movedim(axis + 2, -2).movedim(1, -3)
