"""Low frequencies by attention to a coarse map, high ones by convolutions, side by side in one mixer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.attention.spatial_reduction import reduced
from anyformer.layers.convolution.multi_group import MultiGroupConv, MultiGroupMixer
from anyformer.layers.pooling.cells import cell_means


class LightweightAttention(TokenMixer):
    """Multi-head attention whose keys and values are of means over R tokens along each axis, with folding projections.

    softmax(q k^T / sqrt(d)) v with q = W_q x and k, v = W_kv mean_R(x); all W are sums over groups of channels that
    fold for inference. RLMHSA of Tan et al. 2023 (FMViT), arXiv:2311.05707; the means are those of Next-ViT's attention
    (arXiv:2207.05501, section 3.3). Padding is left out of the means and not seen.
    Cost: 2 tokens^2 c / R^rank + (2 + 2 / R^rank) tokens c^2 multiply-adds when folded.

    Args:
        dim: channels.
        heads: attention heads.
        reduction: R.
        groups: of the projections' branches.
        scoring: from scores to outputs.
        norm: in every branch.
        grid: only its rank counts.

    Raises:
        OptionError: heads or groups that do not divide dim; a reduction below 1.
    """

    name = "lightweight_attention"
    papers = ("fmvit",)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        reduction: int = 2,
        groups: Sequence[int] = (1, 2),
        scoring: Spec = Spec("softmax"),
        norm: Spec = Spec("batchnorm"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if reduction < 1:
            raise OptionError(f"{self.name}: the reduction is 1 or more; given {reduction}.")
        self.head_dim, self.reduction = split_dim(dim, heads, None, self.name), reduction
        options = {"groups": groups, "norm": norm, "rank": len(grid), "part": self.name}
        self.q = MultiGroupConv(dim, dim, **options)
        self.k = MultiGroupConv(dim, dim, **options)
        self.v = MultiGroupConv(dim, dim, **options)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = MultiGroupConv(dim, dim, **options)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        source, mask = x, None if segments is None else segments.valid
        if self.reduction > 1:
            source = cell_means(x, self.reduction, segments)
            mask = None if mask is None else reduced(mask, self.reduction)
        q, k, v = self._heads(self.q(x)), self._heads(self.k(source)), self._heads(self.v(source))
        y = self.scoring(q, k, v, mask=None if mask is None else mask.flatten(1)[:, None, None])
        return self.out(merge_heads(y).view_as(x))

    def _heads(self, x: Tensor) -> Float[Tensor, "b h n d"]:
        return x.flatten(1, -2).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class MultiFrequencyMixer(TokenMixer):
    """W [l + Attention(l), h + Conv(h)]: l and h are projections of the tokens to `low` and the other channels.

    The multi-frequency mixing of Tan et al. 2023 (FMViT), arXiv:2311.05707: `LightweightAttention` carries low
    frequencies, `MultiGroupMixer` high ones, and W, which folds as they do, mixes both. Cost: that of both parts on
    their channels, and 2 tokens c^2 multiply-adds when folded.

    Args:
        dim: channels.
        heads: shares of the channels, and the heads of both parts together.
        low: shares for attention; `heads` for attention alone, 0 for convolutions alone (None: half of them).
        reduction: as `LightweightAttention`'s.
        groups: of the projections' branches.
        norm: in every branch.
        grid: only its rank counts.

    Raises:
        OptionError: heads that do not divide dim; `low` outside 0 to heads; groups that do not divide the shares.
    """

    name = "multi_frequency"
    papers = ("fmvit",)
    cost = 2.0
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        low: int | None = None,
        reduction: int = 2,
        groups: Sequence[int] = (1, 2),
        norm: Spec = Spec("batchnorm"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        share = split_dim(dim, heads, None, self.name)
        low = (heads + 1) // 2 if low is None else low
        if not 0 <= low <= heads:
            raise OptionError(f"{self.name}: low frequencies get 0 to all of {heads} heads; given low={low}.")
        high = heads - low
        self.low_dim, self.high_dim = low * share, high * share
        options = {"groups": groups, "norm": norm, "rank": len(grid), "part": self.name}
        self.to_low = MultiGroupConv(dim, self.low_dim, **options) if low else None
        self.to_high = MultiGroupConv(dim, self.high_dim, **options) if high else None
        inner = {"groups": groups, "norm": norm, "grid": grid}
        self.attention = LightweightAttention(self.low_dim, heads=low, reduction=reduction, **inner) if low else None
        self.convolution = MultiGroupMixer(self.high_dim, heads=high, **inner) if high else None
        self.out = MultiGroupConv(dim, dim, **options)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        parts = []
        for project, mixer in ((self.to_low, self.attention), (self.to_high, self.convolution)):
            if project is not None and mixer is not None:
                y = project(x)
                parts.append(y + mixer(y, segments))
        return self.out(torch.cat(parts, -1))
