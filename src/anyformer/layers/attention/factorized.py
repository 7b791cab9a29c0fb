"""Attention to few keys of different reach: channels in groups, each with its own way to shrink the map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import plan, tile
from anyformer.layers.attention.projection import merge_heads
from anyformer.layers.attention.spatial_reduction import reduced
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.embedding.patch import StridedConv


class WindowKeys(nn.Module):
    """A map as one window of keys and values: `(b, *grid, c)` to twice `(b, heads, window^rank, c / heads)`.

    Windows of every `dilation`-th token lie side by side on the map, which is mirrored at its end; a key is the mean,
    over all windows, of the tokens at one place in them, through two linear layers that the heads share. Values add a
    depthwise convolution over the window.

    Args:
        dim, heads: channels, and heads that they are shared out to.
        window: tokens along each side of a window.
        dilation: steps between them.
        bias: of the linear layers.
        rank: axes of the grid.
    """

    def __init__(self, dim: int, *, heads: int, window: int, dilation: int, bias: bool, rank: int):
        super().__init__()
        self.heads, self.window, self.dilation = heads, window, dilation
        self.mix = init.linear(dim // heads, dim // heads, bias)
        self.kv = init.linear(dim // heads, 2 * dim // heads, bias)
        self.local = DepthwiseConv(dim, kernel=3, std=3 ** (-rank / 2), grid=(None,) * rank)

    def tiles(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b tiles t c"]:
        """The tokens of every window."""
        rank = x.dim() - 2
        reach = self.dilation * (self.window - 1) + 1
        steps = torch.arange(self.window, device=x.device) * self.dilation
        for axis, size in enumerate(x.shape[1:-1], 1):
            starts = torch.arange(math.ceil(size / reach), device=x.device) * reach
            x = x.index_select(axis, mirrored((starts[:, None] + steps).flatten(), size))
        return tile(x, plan(x.shape[1:-1], (self.window,) * rank, (0,) * rank))

    def mean(self, tiles: Float[Tensor, "b tiles t h d"]) -> Float[Tensor, "b h t d"]:
        """One window from all of them."""
        return tiles.mean(1).transpose(1, 2)

    def forward(self, x: Float[Tensor, "b *grid c"]) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b h t d"]]:
        tiles = self.tiles(x).unflatten(-1, (self.heads, -1))
        k, v = self.kv(self.mix(self.mean(tiles))).chunk(2, -1)
        window = merge_heads(v).unflatten(1, (self.window,) * (x.dim() - 2))
        return k, v + self.local(window).flatten(1, -2).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FlattenedWindowKeys(WindowKeys):
    """`WindowKeys` whose mean is taken over the windows' channels in a row, as FaViT's authors' code does.

    Windows and channels of a head lie in one row, windows outside; the row is cut into as many pieces as a head has
    channels, and every piece averaged. Their weights are trained so.
    """

    def mean(self, tiles: Float[Tensor, "b tiles t h d"]) -> Float[Tensor, "b h t d"]:
        row = tiles.permute(0, 3, 2, 1, 4)  # (b, h, t, tiles, d)
        return row.flatten(-2).unflatten(-1, (row.shape[-1], row.shape[-2])).mean(-1)


class FactorizedAttention(TokenMixer):
    """Softmax attention in groups of channels: one group sees a reduced map, the others a window of means each.

    Qin et al. 2023 (FaViT), arXiv:2312.08614, section 3, "factorization self-attention". Queries come from one
    linear layer. The first group has one head, and keys and values from the map that an R x R convolution of stride R
    reduces; each other group has keys from `WindowKeys` with its dilation, of a map that a depthwise and a pointwise
    convolution make. A depthwise convolution of the values is added in every group.
    Cost: 2 tokens^2 c_1 / R^rank + 2 tokens window^rank (c - c_1) + (2 tokens + 2 tokens / R^rank) c^2 multiply-adds,
    about, with c_1 channels in the first group: linear in tokens where R grows with the side of the map.

    A map that R does not divide is filled with zeros at its end. Tokens that `segments` calls padding count as zero;
    patches of nothing but padding are not seen.

    Args:
        dim: channels.
        heads: attention heads of each group but the first.
        reduction: R, along each axis.
        window: tokens along each side of a window.
        shares: of the channels that each group has: the first group's, then one for each dilation.
        dilations: steps between the tokens of a window, for each group behind the first.
        bias: biases of queries, keys and values.
        norm: norm of the reduced map.
        scoring: from scores to outputs.
        grid: the grid that the part is built for; only its rank counts.

    Raises:
        OptionError: channels that the shares do not divide, or a group's channels that the heads do not; not one share
            more than there are dilations; a reduction, window or dilation below 1.
    """

    name = "factorized"
    papers = ("favit",)
    cost = 2.0
    tiny = {"heads": 1, "reduction": 2, "window": 2, "shares": (2, 1, 1), "dilations": (1, 2)}
    keys: type[WindowKeys] = WindowKeys

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 8,
        window: int = 7,
        shares: Sequence[int] = (2, 7, 7),
        dilations: Sequence[int] = (1, 8),
        bias: bool = True,
        norm: Spec = Spec("layernorm"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if len(shares) != len(dilations) + 1 or min(reduction, window, *shares, *dilations) < 1:
            raise OptionError(
                f"{self.name} takes a share of 1 or more for the reduced map and for each dilation, and a reduction, "
                f"window and dilations of 1 or more; given shares {tuple(shares)}, dilations {tuple(dilations)}, "
                f"reduction {reduction}, window {window}."
            )
        total = sum(shares)
        self.widths = [dim // total * share for share in shares]
        if heads < 1 or dim % total or any(width % heads for width in self.widths[1:]):
            raise OptionError(
                f"{self.name} shares {dim} channels out as {':'.join(map(str, shares))}, and each share but the first "
                f"to {heads} heads: channels that fit are multiples of {total * heads} (or of {total}, with fewer "
                "heads)."
            )
        first, rank = self.widths[0], len(grid)
        self.q = init.linear(dim, dim, bias)
        self.reduce = StridedConv(first, first, kernel=reduction, stride=reduction, rank=rank, what=self.name)
        self.norm = build(norm, "norm", dim=first)
        self.kv = init.linear(first, 2 * first, bias)
        self.local = DepthwiseConv(first, kernel=3, std=3 ** (-rank / 2), grid=grid)
        self.depthwise = DepthwiseConv(dim - first, kernel=3, std=3 ** (-rank / 2), grid=grid)
        self.pointwise = init.linear(dim - first, dim - first)
        self.groups = nn.ModuleList(
            self.keys(width, heads=heads, window=window, dilation=dilation, bias=bias, rank=rank)
            for width, dilation in zip(self.widths[1:], dilations, strict=True)
        )
        self.heads = heads
        self.scorings = nn.ModuleList(
            build(scoring, "scoring", heads=1 if i == 0 else heads) for i in range(len(shares))
        )
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        source = x if segments is None else segments.zero(x)
        first = self.widths[0]
        queries = self.q(x).flatten(1, -2)
        # Each head has its channels of all groups side by side.
        heads = queries[..., first:].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        heads = heads.split([width // self.heads for width in self.widths[1:]], -1)
        mixed = [self._reduced(queries[:, None, :, :first], source[..., :first], segments)]
        near = self.pointwise(self.depthwise(source[..., first:]))
        near = near if segments is None else segments.zero(near)
        for i, (q, part) in enumerate(zip(heads, near.split(self.widths[1:], -1), strict=True)):
            mixed.append(merge_heads(self.scorings[i + 1](q, *self.groups[i](part))))
        return self.out(torch.cat(mixed, -1)).view_as(x)

    def _reduced(
        self, q: Float[Tensor, "b 1 n c"], source: Float[Tensor, "b *grid c"], segments: Segments | None
    ) -> Float[Tensor, "b n c"]:
        """The first group's outputs."""
        k, v = self.kv(self.norm(self.reduce(source))).chunk(2, -1)
        mask = inside = None
        if segments is not None:
            valid = reduced(segments.valid, self.reduce.stride)
            mask, inside = valid.flatten(1)[:, None, None], Segments.from_mask(valid)
        v = v + self.local(v, inside)
        return self.scorings[0](q, k.flatten(1, -2)[:, None], v.flatten(1, -2)[:, None], mask=mask)[:, 0]


class FlattenedFactorizedAttention(FactorizedAttention):
    """`FactorizedAttention` with the means of `FlattenedWindowKeys`: what FaViT's published weights were trained with.

    Arguments and errors as `FactorizedAttention`'s.
    """

    name = "flattened_factorized"
    papers = ("favit",)
    keys = FlattenedWindowKeys


def mirrored(places: Tensor, size: int) -> Tensor:
    """Places beyond the end of an axis, mirrored at its last token and, where need be, at its first, and so on."""
    period = max(2 * (size - 1), 1)
    places = places % period
    return torch.where(places < size, places, period - places)
