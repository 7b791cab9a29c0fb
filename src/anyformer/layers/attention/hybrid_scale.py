"""Attention at two scales at once, whose maps tell which tokens matter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.tiling import Rest, fit_window, plan, tile, tile_segments, untile
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.attention.spatial_reduction import reduced
from anyformer.layers.convolution.depthwise import DepthwiseConv
from anyformer.layers.embedding.patch import StridedConv


class HybridScaleAttention(TokenMixer):
    """Half of the heads attend to the whole map, reduced, the other half inside windows; side by side, plus DW(P x).

    Ren et al. 2023 (SG-Former), arXiv:2308.12216, section 3.1, "hybrid-scale attention". The significance of a token
    is the mean attention that it gets as a key, over heads and queries: inside its window, plus that of the token of
    the reduced map that it is part of. Cost: 2 tokens (tokens / R^rank + window^rank) c / 2 + (5 + 1 / R^rank) tokens
    c^2 multiply-adds.

    A map that R does not divide is filled with zeros at its end; tokens that complete the last window, and tokens that
    `segments` calls padding, are not seen.

    Args:
        dim: channels.
        heads: attention heads; even.
        reduction: R, along each axis of the grid.
        window: side of a window; where the map is smaller, as large as the map.
        rest: a grid that windows do not divide is filled ("pad") or raises `SizeError` ("refuse").
        bias: biases of queries, keys and values.
        local: tokens along each axis that the convolution covers; odd.
        norm, act: what follows the reduction.
        scoring: from scores to outputs.
        grid: the grid that the part is built for.

    Raises:
        OptionError: an odd number of heads, or one that does not divide dim; a reduction below 1.
        SizeError: a grid that windows do not divide, where the rest is refused.
    """

    name = "hybrid_scale"
    papers = ("sg_former",)
    cost = 2.0
    head_kinds = 2
    tiny = {"heads": 2, "reduction": 2, "window": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 8,
        window: int = 7,
        rest: Rest = "pad",
        bias: bool = True,
        local: int = 3,
        norm: Spec = Spec("layernorm"),
        act: Spec = Spec("gelu"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if heads % 2 or reduction < 1:
            raise OptionError(
                f"{self.name}: half of the heads see the whole map, half windows, so their number is even, and the "
                f"reduction is 1 or more; given heads={heads}, reduction={reduction}."
            )
        self.head_dim = split_dim(dim, heads, None, self.name)
        self.window = fit_window(window, grid, cap=True, part=self.name)
        self.rest: Rest = rest
        rank = len(grid)
        self.q = init.linear(dim, dim, bias)
        self.reduce = StridedConv(dim, dim, kernel=reduction, stride=reduction, rank=rank, what=self.name)
        self.norm = build(norm, "norm", dim=dim)
        self.act = build(act, "act")
        self.kv_whole = init.linear(dim, dim, bias)
        self.kv_window = init.linear(dim, dim, bias)
        self.scoring_whole = build(scoring, "scoring", heads=heads // 2)
        self.scoring_window = build(scoring, "scoring", heads=heads // 2)
        self.position = init.linear(dim, dim)
        self.local = DepthwiseConv(dim, kernel=local, std=local ** (-rank / 2), grid=grid)
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        return self.with_significance(x, segments)[0]

    def with_significance(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None
    ) -> tuple[Float[Tensor, "b *grid c"], Float[Tensor, "b *grid"]]:
        """The outputs, and how much each token matters, without a gradient."""
        q_whole, q_window = self.q(x).chunk(2, -1)
        whole, coarse = self._whole(q_whole, x if segments is None else segments.zero(x), segments)
        window, fine = self._window(torch.cat([q_window, self.kv_window(x)], -1), segments)
        near = self.local(self.position(x), segments)
        y = self.out(torch.cat([whole, window], -1) + near)
        return y, fine + enlarged(coarse, self.reduce.stride, x.shape[1:-1])

    def _whole(self, q: Tensor, source: Tensor, segments: Segments | None) -> tuple[Tensor, Tensor]:
        """Outputs of the heads that see the reduced map, and the share of attention that each of its tokens gets."""
        source = self.act(self.norm(self.reduce(source)))
        k, v = self._heads(self.kv_whole(source)).chunk(2, dim=1)
        mask = asks = None
        if segments is not None:
            mask = reduced(segments.valid, self.reduce.stride).flatten(1)[:, None, None]
            asks = segments.valid.flatten(1)
        y, weights = self.scoring_whole(self._heads(q), k, v, mask=mask, with_map=True)
        return merge_heads(y).view_as(q), attended(weights, asks).view(source.shape[:-1])

    def _window(self, parts: Tensor, segments: Segments | None) -> tuple[Tensor, Tensor]:
        """Outputs of the heads that see windows, and the share of its window's attention that each token gets."""
        grid = parts.shape[1:-1]
        tiling = plan(grid, self.window, (0,) * len(grid), rest=self.rest)
        if segments is None and tiling.padded != tiling.grid:
            segments = Segments(torch.ones(parts.shape[:-1], dtype=torch.long, device=parts.device))
        tiles = tile(parts, tiling)
        q, k, v = self._heads(tiles.flatten(0, 1)).chunk(3, dim=1)
        mask = asks = None
        if segments is not None:
            mask = tile_segments(segments, tiling).flatten(0, 1)
            asks = mask[:, 0, 0]
        y, weights = self.scoring_window(q, k, v, mask=mask, with_map=True)
        y = merge_heads(y).unflatten(0, (len(parts), -1))
        share = attended(weights, asks).unflatten(0, (len(parts), -1))
        return untile(y, tiling), untile(share[..., None], tiling)[..., 0]

    def _heads(self, x: Tensor) -> Float[Tensor, "b h n d"]:
        return x.flatten(1, -2).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def attended(weights: Float[Tensor, "b h q k"], asks: Bool[Tensor, "b q"] | None = None) -> Float[Tensor, "b k"]:
    """The mean attention that every key gets over heads and queries, without a gradient; of the queries, `asks`."""
    weights = weights.detach()
    if asks is None:
        return weights.mean((1, 2))
    counted = asks.to(weights.dtype)
    total = (weights.mean(1) * counted[..., None]).sum(1)
    return total / counted.sum(1, keepdim=True).clamp(min=1)


def enlarged(values: Float[Tensor, "b *small"], times: int, grid: Sequence[int]) -> Float[Tensor, "b *grid"]:
    """Each value for all the places of a finer grid that it stands for; the end of the last ones is left out."""
    for axis, size in enumerate(grid, 1):
        values = values.repeat_interleave(times, axis).narrow(axis, 0, size)
    return values
