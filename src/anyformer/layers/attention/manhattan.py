"""Manhattan self-attention: every head fades with the distance on the grid at a rate of its own."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.lepe import LePEAttention


class ManhattanAttention(LePEAttention):
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
        local, scoring, grid: as `LePEAttention`'s.

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
        **options: Any,
    ):
        super().__init__(dim, heads=heads, local=local, **options)
        self.decay = build(decay, "bias", heads=heads, head_dim=self.qkv.head_dim)
        self.rotation = build(rotation, "rotation", head_dim=self.qkv.head_dim) if rotation is not None else None

    def attend(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h n d"],
        v: Float[Tensor, "b h n d"],
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None,
    ) -> Float[Tensor, "b h n d"]:
        mask = None if segments is None else segments.pairs()
        return self.scoring(*self.rotated(q, k), v, bias=self.decay(x.shape[1:-1]), mask=mask)

    def rotated(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, turned by their places."""
        return (q, k) if self.rotation is None else (self.rotation(q), self.rotation(k))


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

    def attend(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, segments: Segments | None) -> Float[Tensor, "b h n d"]:
        grid = x.shape[1:-1]
        q, k, v = (t.unflatten(2, tuple(grid)) for t in (*self.rotated(q, k), v))
        for axis in reversed(range(len(grid))):
            mask = None
            if segments is not None:
                mask = segments.valid.movedim(axis + 1, -1).flatten(0, -2)[:, None, None]
            lines = lines_along(v, axis)
            mixed = self.scoring(
                lines_along(q, axis).flatten(0, -4),
                lines_along(k, axis).flatten(0, -4),
                lines.flatten(0, -4),
                bias=self.decay.line(grid[axis]),
                mask=mask,
            )
            v = mixed.view(*lines.shape[:-3], *mixed.shape[1:]).movedim(-3, 1).movedim(-2, axis + 2)
        return v.flatten(2, -2)


def lines_along(t: Float[Tensor, "b h *grid d"], axis: int) -> Float[Tensor, "b *others h n d"]:
    """The lines along one axis, each with all heads."""
    return t.movedim(axis + 2, -2).movedim(1, -3)
