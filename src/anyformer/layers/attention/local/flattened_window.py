"""Attention in groups of equal size along a way through windows: sparse tokens without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.positioned import PositionedAttention
from anyformer.layers.position.sine_map import sines

FAR = 1 << 20
"""More windows than any grid has along an axis."""


class Groups(NamedTuple):
    """Which tokens attend to each other.

    Attributes:
        tokens: `(b, s, g)`, the tokens of every group, by their places in the sequence.
        seen: `(b, s, g)`, true where a slot holds a token that is seen.
        own: `(b, n)`, the slot, of `s g`, from which a token takes its output; a padded token any.
    """

    tokens: Int[Tensor, "b s g"]
    seen: Bool[Tensor, "b s g"]
    own: Int[Tensor, "b n"]

    @property
    def used(self) -> Bool[Tensor, "b s"]:
        """Groups that hold a token; the others are those of shorter samples of a batch."""
        return self.seen.any(-1)

    @property
    def slots(self) -> int:
        """Slots that are computed: those of the groups in use."""
        return int(self.used.sum()) * self.seen.shape[-1]


def window_keys(
    places: Int[Tensor, "b n 2"], window: int, axis: Literal["x", "y"] = "x", shift: int = 0
) -> Int[Tensor, "b n"]:
    """A number for each place (row, column), which grows along a way through windows, and inside them.

    Windows are passed row by row ("x") or column by column ("y"), and so are the places inside, always turning round at
    the end of a line, so that what follows each other is near. Liu et al. 2023, arXiv:2301.08739, section 3.1, with the
    turns of the authors' code.

    Args:
        places: from 0.
        window: side of a window.
        axis: along which windows and places follow each other first.
        shift: by how much the windows lie before the places.
    """
    across, along = (places + shift).unbind(-1)  # rows and columns
    if axis == "y":
        across, along = along, across
    inside_across, inside_along = across % window, along % window
    across, along = across // window, along // window
    back = 1 - 2 * (across % 2)
    turn = 1 - 2 * (inside_along % 2)
    within = 2 * window * inside_along + turn * inside_across
    return (2 * FAR * across + back * along) * 4 * window**2 + back * within


def equal_groups(keys: Int[Tensor, "b n"], group: int, valid: Bool[Tensor, "b n"] | None = None) -> Groups:
    """Cut the tokens, in the order of their keys, into groups of `group`.

    The last group of a sample is filled with the tokens before it, which are in their own group too but are only looked
    at here. A sample of fewer tokens than a group is one group with empty slots. Every token is in one group of its
    own, and fewer than `group` slots of a sample are filling. Section 3.1.
    """
    batch, n = keys.shape
    valid = torch.ones_like(keys, dtype=torch.bool) if valid is None else valid
    order = torch.argsort(keys.masked_fill(~valid, torch.iinfo(keys.dtype).max), dim=1, stable=True)
    count = valid.sum(1, keepdim=True)
    steps = torch.arange(-(-n // group) * group, device=keys.device).expand(batch, -1)
    # What lies behind the last token is, in the group that it is in, the place of a token of the group before.
    filled = torch.where(steps < count, steps, steps - group)
    seen = (steps < count) | ((steps < (count + group - 1) // group * group) & (filled >= 0))
    tokens = order.gather(1, filled.clamp(min=0, max=n - 1))
    own = torch.empty_like(order).scatter_(1, order, torch.arange(n, device=keys.device).expand(batch, -1))
    return Groups(tokens.unflatten(1, (-1, group)), seen.unflatten(1, (-1, group)), own)


def check_places(places: Tensor, grid: tuple[int, int] | None = None, segments: Segments | None = None) -> None:
    """Raise where these are no places of tokens.

    Args:
        places: `(b, n, 2)` rows and columns.
        grid: rows and columns that there are; None where nobody knows.
        segments: which tokens are padding; their places do not count.
    """
    if places.dim() != 3 or places.shape[-1] != 2:
        raise SizeError(f"places are (batch, tokens, 2), row and column of each; given {tuple(places.shape)}.")
    if places.is_floating_point() or places.is_complex() or places.dtype == torch.bool:
        raise DataError(
            f"places are whole numbers, row and column of a cell; given {str(places.dtype).removeprefix('torch.')}: "
            "divide positions by the size of a cell and take the floor."
        )
    if not places.numel():
        raise SizeError(f"a cloud has one token or more; given places {tuple(places.shape)}.")
    if torch.compiler.is_compiling():
        return
    known = places
    if segments is not None:
        if not bool(segments.valid.flatten(1).any(1).all()):
            raise SizeError("a cloud has one token or more; one of this batch is empty, padding alone.")
        known = places[segments.valid]
    low, high = (bound(known.flatten(0, -2), 0).tolist() for bound in (torch.amin, torch.amax))
    if min(low) < 0 or (grid is not None and any(h >= g for h, g in zip(high, grid, strict=True))):
        rows, columns = grid if grid is not None else ("any number of", "any number of")
        raise DataError(
            f"places lie on a grid of {rows} rows and {columns} columns, counted from 0; given rows {low[0]} to "
            f"{high[0]} and columns {low[1]} to {high[1]}: leave out what lies outside."
        )


class FlattenedWindow(TokenMixer):
    """Attention in groups of equal size, cut from the tokens in the order of a way through windows.

    Groups have as many tokens however dense these lie, where windows would have to be padded to the fullest. Queries
    and keys are told where they are by sines and cosines, values are not. Liu et al. 2023 (FlatFormer),
    arXiv:2301.08739, sections 3.1 and 3.2. Cost: 2 n group c + 4 n c^2 multiply-adds, and a sort.

    Tokens are those of a grid `(b, h, w, c)`, all of them; or, with `places`, a cloud `(b, n, c)` of any cells of a
    grid, no two in one. Another order of a cloud's tokens gives the same outputs in that order.

    Args:
        dim: channels.
        heads: attention heads.
        window: side of a window, in cells.
        group: tokens of a group.
        axis: of the way through the windows, "x" row by row, "y" column by column.
        shift: "half" a window, so that what two groups parted comes together; or "none".
        temperature: of the sines.
        scoring: from scores to outputs.
        grid: rows and columns that places of a cloud lie on, where known.

    Raises:
        OptionError: a window or group below 1.
        SizeError, DataError: places that are no cells of the grid, or an empty cloud.
    """

    name = "flattened_window"
    papers = ("flatformer",)
    ranks = (2,)
    cost = 1.0
    sparse: ClassVar[bool] = True
    tiny = {"heads": 2, "window": 2, "group": 5, "shift": "half"}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        window: int = 13,
        group: int = 144,
        axis: Literal["x", "y"] = "x",
        shift: Literal["none", "half"] = "none",
        temperature: float = 10000.0,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if window < 1 or group < 1:
            raise OptionError(f"flattened_window: window and group are 1 or more; given {window} and {group}.")
        self.dim, self.window, self.group, self.temperature = dim, window, group, temperature
        self.axis: Literal["x", "y"] = axis
        rows, columns = grid
        self.grid = None if rows is None or columns is None else (rows, columns)
        self.shift = window // 2 if shift == "half" else 0
        self.attention = PositionedAttention(dim, heads=heads, scoring=scoring)

    def codes(self, places: Int[Tensor, "b n 2"]) -> Float[Tensor, "b n c"]:
        """Sines of the column, then of the row; zero in channels that are left over."""
        row, column = (sines(p, self.dim // 4 * 2, self.temperature) for p in places.unbind(-1))
        both = torch.cat([column, row], -1)
        return torch.nn.functional.pad(both, (0, self.dim - both.shape[-1]))

    def groups(self, places: Int[Tensor, "b n 2"], segments: Segments | None = None) -> Groups:
        """How tokens at these places are grouped."""
        keys = window_keys(places, self.window, self.axis, self.shift)
        return equal_groups(keys, self.group, None if segments is None else segments.valid)

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        places: Int[Tensor, "b n 2"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        if places is None:
            high, wide = x.shape[1:-1]
            cells = torch.cartesian_prod(
                torch.arange(high, device=x.device), torch.arange(wide, device=x.device)
            ).expand(len(x), -1, -1)
            flat = None if segments is None else segments.flat()
            return self.among(x.flatten(1, 2), cells, flat).view_as(x)
        check_places(places, self.grid, segments)
        return self.among(x, places, segments)

    def among(self, x: Float[Tensor, "b n c"], places: Int[Tensor, "b n 2"], segments: Segments | None) -> Tensor:
        """Attention among the tokens of each group."""
        groups = self.groups(places, segments)
        batch, _, c = x.shape
        slots = groups.tokens.flatten(1)[..., None].expand(-1, -1, c)
        inside, codes = (
            t.gather(1, slots).unflatten(1, (-1, self.group)).flatten(0, 1) for t in (x, self.codes(places).to(x.dtype))
        )
        seen = groups.seen.flatten(0, 1)
        every = segments is None or torch.compiler.is_compiling()
        rows = None if every else groups.used.flatten().nonzero()[:, 0]
        if rows is not None:
            inside, codes, seen = inside[rows], codes[rows], seen[rows]
        # A group without any token is looked at nowhere; it sees its first slot, as softmax of nothing is no number.
        seen = seen | (torch.arange(self.group, device=x.device) == 0)
        y = self.attention(inside, inside, codes, codes, seen)
        if rows is not None:
            y = y.new_zeros(batch * groups.used.shape[1], *y.shape[1:]).index_copy(0, rows, y)
        y = y.view(batch, -1, c)
        return y.gather(1, groups.own[..., None].expand(-1, -1, c))
