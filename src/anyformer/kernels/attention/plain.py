"""softmax(q k^T / sqrt(d) + bias) v, as the shortest code (Vaswani et al. 2017, arXiv:1706.03762, equation 1)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def allowed(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "q k"]:
    """True where a causal query may see a key; the last query is aligned with the last key."""
    rows = torch.arange(queries, device=device)[:, None] + (keys - queries)
    return rows >= torch.arange(keys, device=device)[None, :]


def attention_weights(
    q: Float[Tensor, "*b h q d"],
    k: Float[Tensor, "*b g k d"],
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*b h q k"]:
    """The attention map. Rows that may see no key are zero.

    Args:
        q, k: queries of h heads and keys of g heads, where g divides h (grouped queries).
        bias: added to the scores before the softmax; broadcasts to (*b, h, q, k).
        mask: true where a query may see a key; broadcasts likewise.
        causal: a query sees keys up to its own position.
        scale: factor of the scores; d ** -0.5 where None.
    """
    if k.shape[-3] != q.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    if causal:
        seen = allowed(q.shape[-2], k.shape[-2], q.device)
        mask = seen if mask is None else mask & seen
    if mask is None:
        return scores.softmax(-1)
    return scores.masked_fill(~mask, float("-inf")).softmax(-1).masked_fill(~mask, 0.0)


def attention_plain(q: Tensor, k: Tensor, v: Tensor, **options) -> Float[Tensor, "*b h q e"]:
    """Attention by its equation; options as in `attention_weights`."""
    weights = attention_weights(q, k, **options)
    if v.shape[-3] != q.shape[-3]:
        v = v.repeat_interleave(q.shape[-3] // v.shape[-3], dim=-3)
    return weights @ v
