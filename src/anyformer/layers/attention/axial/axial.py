"""Attention along one axis of a grid at a time: the lines along the other axes are a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.layers.attention.full import Attention


def along(
    x: Float[Tensor, "b *grid c"], axis: int, mix: Callable[..., Tensor], segments: Segments | None = None
) -> Float[Tensor, "b *grid c"]:
    """Every line of the grid along this axis as a sequence of its own.

    Args:
        x: tokens.
        axis: of the grid, from 0.
        mix: from sequences `(lines, n, c)` and their segments to the same shape.
        segments: of the grid.
    """
    lines = x.movedim(axis + 1, -2)
    inside = None
    if segments is not None:
        inside = Segments(segments.ids.movedim(axis + 1, -1).flatten(0, -2))
    return mix(lines.flatten(0, -3), inside).reshape(lines.shape).movedim(-2, axis + 1)


def check_axis(axis: int, grid: Sequence[Any], part: str) -> None:
    """Raise `OptionError` for an axis that the grid does not have."""
    if not 0 <= axis < len(grid):
        raise OptionError(
            f"{part}: the grid has {len(grid)} axes, numbered 0 to {len(grid) - 1} (channels are none of them); "
            f"given {axis}."
        )


class AxialAttention(TokenMixer):
    """Attention along every axis of the grid, one at a time: `(b, *grid, c)` to the same shape.

    "sum": the axes' outputs from the same tokens are added up. "sequence": each axis goes on from the outputs of the
    one before, so that every token reaches every other. Ho et al. 2019, arXiv:1912.12180, section 3.1. Each axis has
    weights of its own. Cost: 2 n sum(axes) c + 4 n rank c^2 multiply-adds for n tokens, n^1.5 on a square.

    Args:
        dim: channels.
        heads, head_dim: heads; channels of a head (None: dim / heads).
        join: "sum" or "sequence".
        masked: axes along which a token sees itself and earlier ones only.
        bias: biases of queries, keys and values.
        grid: the grid that the part is built for; its axes count.

    Raises:
        OptionError: a masked axis that the grid does not have.
        SizeError: tokens on a grid of another number of axes.
    """

    name = "axial"
    papers = ("axial_transformer",)
    ranks = (2, 3)
    cost = 1.5
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int | None = None,
        join: Literal["sum", "sequence"] = "sum",
        masked: Sequence[int] = (),
        bias: bool = True,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        for axis in masked:
            check_axis(axis, grid, self.name)
        self.join = join
        self.axes = nn.ModuleList(
            Attention(dim, heads=heads, head_dim=head_dim, bias=bias, causal=axis in masked)
            for axis in range(len(grid))
        )

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        if x.dim() - 2 != len(self.axes):
            raise SizeError(
                f"axial attention is built for {len(self.axes)} axes, tokens (batch, {len(self.axes)} axes, channels); "
                f"given {tuple(x.shape)}: build it with grid=({', '.join(['None'] * max(x.dim() - 2, 2))})."
            )
        if self.join == "sequence":
            for axis, attention in enumerate(self.axes):
                x = along(x, axis, attention, segments)
            return x
        first, *others = (along(x, axis, attention, segments) for axis, attention in enumerate(self.axes))
        return sum(others, first)
