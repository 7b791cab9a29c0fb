"""Attention whose values also pass a small convolution, so that tokens know their neighbours at any image size."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.conv_projection import class_and_map
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.convolution.depthwise import DepthwiseConv


class LocalPositionAttention(TokenMixer):
    """softmax(q k^T / sqrt(d)) v + DWConv(v) in every head, with one depthwise convolution for all heads.

    Tian et al. 2022 (ResFormer), arXiv:2212.00776, section 3, "local positional embedding". Cost: 2 tokens^2 c
    + 4 tokens c^2 + tokens c kernel^rank multiply-adds. Ranks 1 to 3, any grid.

    Class tokens stand before a map's tokens in one sequence and skip the convolution; `forward` is then told the grid
    of the map. Tokens that `segments` calls padding are not seen, and zero for the convolution.

    Args:
        dim: channels.
        heads: attention heads.
        kernel: tokens along each axis that a filter covers; odd.
        bias: biases of queries, keys and values.
        scoring: from scores to outputs, e.g. Spec("softmax").
        prefix: class tokens before the map.
        grid: the map's grid; decides its rank.

    Raises:
        OptionError: an even kernel; heads that do not divide dim.
        SizeError: a sequence that is not as long as class tokens and map are.
    """

    name = "local_position"
    papers = ("resformer",)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kernel: int = 3,
        bias: bool = True,
        scoring: Spec = Spec("softmax"),
        prefix: int = 0,
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        self.num_prefix = prefix
        self.qkv = QKV(dim, heads=heads, bias=bias, part=self.name)
        # The authors' filters start at zero, so that a model starts as a plain ViT.
        self.local = DepthwiseConv(self.qkv.head_dim, kernel=kernel, grid=grid)
        nn.init.zeros_(self.local.weight)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, grid: Sequence[int] = ()
    ) -> Float[Tensor, "b *grid c"]:
        """`grid`: that of the map behind class tokens, where there are any."""
        _, image = class_and_map(x, self.num_prefix, grid, self.name)
        q, k, v = self.qkv(x.flatten(1, -2))
        mask, seen = None, v
        if segments is not None:
            valid = segments.flat().valid
            mask, seen = valid[:, None, None], v.masked_fill(~valid[:, None, :, None], 0)
        y = self.scoring(q, k, v, mask=mask)
        maps = seen[:, :, self.num_prefix :].flatten(0, 1).unflatten(1, tuple(image.shape[1:-1]))
        near = self.local(maps).flatten(1, -2).view(*y.shape[:2], -1, y.shape[-1])
        return self.out(merge_heads(y + F.pad(near, (0, 0, self.num_prefix, 0)))).view_as(x)
