"""Neighborhood attention in 1, 2 and 3 dimensions, dilated or not, exact up to the borders.

`plain` is the equation by gathering; `tiled` computes small dense attentions and runs everywhere; `flex` compiles a
kernel for a GPU. `neighborhood_attention` picks.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.kernels.neighborhood.flex import HEAD_DIMS, neighborhood_flex
from anyformer.kernels.neighborhood.plain import neighborhood_plain, neighborhood_weights, weighted
from anyformer.kernels.neighborhood.tiled import neighborhood_tiled

__all__ = [
    "neighborhood_attention",
    "neighborhood_flex",
    "neighborhood_plain",
    "neighborhood_tiled",
    "neighborhood_weights",
    "weighted",
]


def neighborhood_attention(
    q: Float[Tensor, "b h *grid d"],
    k: Float[Tensor, "b h *grid d"],
    v: Float[Tensor, "b h *grid e"],
    *,
    kernel: Sequence[int],
    dilation: Sequence[int],
    bias: Float[Tensor, "h rows"] | None = None,
    valid: Bool[Tensor, "b *grid"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b h *grid e"]:
    """Every token attends to its `kernel` nearest tokens along each axis, `dilation` apart.

    Arguments as `neighborhood_weights`'s; `dropout` is the share of weights dropped. Raises `SizeError` where a
    neighbourhood is larger than the grid.
    """
    options = {"kernel": kernel, "dilation": dilation, "bias": bias, "scale": scale}
    if q.is_meta:  # where only shapes are computed, the operations that are counted are those of the equation
        return neighborhood_plain(q, k, v, valid=valid, **options)
    if q.is_cuda and valid is None and not dropout and q.shape[-1] in HEAD_DIMS and v.shape[-1] in HEAD_DIMS:
        return neighborhood_flex(q, k, v, **options)
    return neighborhood_tiled(q, k, v, valid=valid, dropout=dropout, **options)
