"""Attention through torch's fused kernel, which never stores the map: memory linear in tokens."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.kernels.attention.plain import allowed


def attend(
    q: Float[Tensor, "b h q d"],
    k: Float[Tensor, "b g k d"],
    v: Float[Tensor, "b g k e"],
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b h q e"]:
    """Softmax attention; arguments as in `attention_weights`, equal to `attention_plain` in value and gradient.

    Cost: 2 b h q k (d + e) multiply-adds.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if k.shape[-3] != q.shape[-3]:
        groups = q.shape[-3] // k.shape[-3]
        if queries == 1 and bias is None:  # decoding: the queries of a group share their keys as rows
            y = attend(q.unflatten(1, (-1, groups)).flatten(2, 3), k, v, mask=mask, scale=scale, dropout=dropout)
            return y.unflatten(2, (groups, 1)).flatten(1, 2)
        k, v = (t.repeat_interleave(groups, dim=-3) for t in (k, v))
    if causal and queries == 1:
        causal = False
    if causal and (mask is not None or bias is not None or queries != keys):
        seen = allowed(queries, keys, q.device)
        mask = seen if mask is None else mask & seen
        causal = False
    if bias is not None:
        # torch's kernel takes masks of two or four axes; with three it stores the map, several times slower
        bias = bias[None] if bias.dim() == 3 and q.dim() == 4 else bias
        mask = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, dropout_p=dropout)
