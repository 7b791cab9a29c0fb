"""Window attention whose queries come from the whole map and are the same in all windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import FitError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.local.even_window import even_window
from anyformer.layers.attention.local.tiling import plan, tile, tile_segments, untile
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.convolution.fused_mbconv import FusedMBConv
from anyformer.layers.embedding.pooled_stem import POOLS

ADAPTIVE = {
    1: nn.functional.adaptive_max_pool1d,
    2: nn.functional.adaptive_max_pool2d,
    3: nn.functional.adaptive_max_pool3d,
}


class GlobalQuery(nn.Module):
    """A map shrunk to one window: tokens `(b, *grid, c)` to queries `(b, *window, c)`.

    log2(splits) times FusedMBConv and 3x3 max pooling of stride 2, or one FusedMBConv alone where the map is one
    window. Hatamizadeh et al. 2022 (GC ViT), arXiv:2206.09959, section 3.3, "global query generator". The map of a
    larger image is pooled further, to the window.

    Args:
        dim: channels.
        splits: windows along each axis of the grid.
        grid: the grid that it is built for.
    """

    def __init__(self, dim: int, *, splits: int, grid: Sequence[int | None]):
        super().__init__()
        self.window = even_window(splits, grid, "global_query")
        self.pools = int(math.log2(splits))
        self.blocks = nn.ModuleList(FusedMBConv(dim, grid=grid) for _ in range(max(1, self.pools)))

    def forward(self, x: Float[Tensor, "b *grid c"]) -> Float[Tensor, "b *window c"]:
        rank = x.dim() - 2
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i < self.pools:
                x = POOLS[rank](x.movedim(-1, 1), 3, 2, 1).movedim(1, -1)
        if tuple(x.shape[1:-1]) != self.window:
            size = self.window[0] if rank == 1 else self.window
            x = ADAPTIVE[rank](x.movedim(-1, 1), size).movedim(1, -1)
        return x


class GlobalQueryAttention(TokenMixer):
    """softmax(q k^T / sqrt(d) + B) v inside windows; keys and values are the window's, q the same global tokens in all.

    Hatamizadeh et al. 2022 (GC ViT), arXiv:2206.09959, section 3.3 and figure 4. Where `queries` are "own", the part
    makes them of its input by a `GlobalQuery`; with "stage", a stage makes them once for all its blocks
    (`global_query_stage`) and `forward` is given them. Tokens that `segments` calls padding are zero for the queries
    and not seen as keys. Cost: 2 tokens^2 / splits^rank c + 3 tokens c^2 multiply-adds, and those of the queries.

    Args:
        dim: channels.
        heads: attention heads.
        splits: windows along each axis.
        queries: who makes them.
        bias: biases of keys and values.
        distance: bias of the offset inside a window.
        scoring: from scores to outputs.
        grid: the grid that the part is built for.

    Raises:
        OptionError: no window; a grid that is not known; heads that do not divide dim.
        SizeError: a map that is not made of whole windows.
        FitError: queries of the stage, and none given.
    """

    name = "global_query"
    papers = ("gcvit",)
    ranks = (2, 3)
    cost = 2.0
    tiny = {"heads": 2, "splits": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        splits: int = 8,
        queries: Literal["own", "stage"] = "own",
        bias: bool = True,
        distance: Spec | None = Spec("relative_table"),
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.window = even_window(splits, grid, self.name)
        self.head_dim = split_dim(dim, heads, None, self.name)
        self.queries = queries
        self.query = GlobalQuery(dim, splits=splits, grid=grid) if queries == "own" else None
        self.kv = init.linear(dim, 2 * dim, bias)
        self.bias = build(distance, "bias", heads=heads, window=self.window) if distance is not None else None
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        segments: Segments | None = None,
        query: Float[Tensor, "b *window c"] | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        tiling = plan(x.shape[1:-1], self.window, (0,) * len(self.window), rest="refuse")
        if self.query is not None:
            query = self.query(x if segments is None else segments.zero(x))
        elif query is None:
            raise FitError(
                f'{self.name} with queries="stage" is given them by a stage such as global_query_stage; elsewhere take '
                'queries="own".'
            )
        tiles = tile(x, tiling)
        windows = tiles.shape[1]
        q = self._heads(query.flatten(1, -2))[:, None].expand(-1, windows, -1, -1, -1).flatten(0, 1)
        k, v = self._heads(self.kv(tiles.flatten(0, 1))).chunk(2, dim=1)
        mask = None if segments is None else tile_segments(segments, tiling).flatten(0, 1)
        bias = self.bias() if self.bias is not None else None
        y = self.out(merge_heads(self.scoring(q, k, v, bias=bias, mask=mask)))
        return untile(y.view(tiles.shape), tiling)

    def _heads(self, x: Float[Tensor, "b n hd"]) -> Float[Tensor, "b h n d"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
