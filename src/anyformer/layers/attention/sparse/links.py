"""Attention along given links: each token sees those that a link leads from. Cost linear in links."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

LIMIT = 5.0
"""Scores are kept within this before the exponential, as in the authors' code."""

EPSILON = 1e-6


def at(x: Float[Tensor, "b n h d"], index: Int[Tensor, "b e"]) -> Float[Tensor, "b e h d"]:
    """The tokens at one end of every link."""
    return x.gather(1, index[:, :, None, None].expand(-1, -1, *x.shape[2:]))


def attend_along(
    q: Float[Tensor, "b n h d"],
    k: Float[Tensor, "b n h d"],
    v: Float[Tensor, "b n h d"],
    links: Int[Tensor, "b e 2"],
    factors: Float[Tensor, "b e h d"] | None = None,
) -> tuple[Float[Tensor, "b n h d"], Float[Tensor, "b e h d"]]:
    """Softmax over the links that lead to each token; and the products of queries and keys, channel by channel.

    Dwivedi and Bresson 2020, arXiv:2012.09699, equations 4 and 5; with `factors`, 10 and 11. A token without a link is
    zero. Cost: 3 e h d multiply-adds.

    Args:
        q, k, v: of every token and head.
        links: from and to; negative where padded. A link that is given twice counts twice.
        factors: what each link multiplies its products by before they are summed over channels.
    """
    valid = links[..., 0] >= 0
    source, target = links.clamp(min=0).unbind(-1)
    products = at(k, source) * at(q, target) * q.shape[-1] ** -0.5
    products = products if factors is None else products * factors
    weights = products.sum(-1, keepdim=True).float().clamp(-LIMIT, LIMIT).exp() * valid[:, :, None, None]
    weights = weights.to(v.dtype)
    place = target[:, :, None, None]
    values, total = (
        torch.zeros(len(v), v.shape[1], *found.shape[2:], dtype=v.dtype, device=v.device).scatter_add(
            1, place.expand_as(found), found
        )
        for found in (weights * at(v, source), weights)
    )
    return values / (total.clamp(min=EPSILON) if factors is None else total + EPSILON), products
