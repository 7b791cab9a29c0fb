"""Queries, keys and values from tokens: the linear layers that every attention shares."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import trunc_normal
from anyformer.core.spec import Spec


def split_dim(dim: int, heads: int, head_dim: int | None, part: str) -> int:
    """Channels of a head: `head_dim`, or dim / heads. Raises `OptionError` where that is no whole number."""
    if head_dim is not None:
        return head_dim
    if heads < 1 or dim % heads:
        fits = [h for h in range(1, min(dim, 64) + 1) if dim % h == 0]
        raise OptionError(
            f"{part}: {heads} heads do not divide {dim} channels; heads that fit: {', '.join(map(str, fits))}; "
            "or give head_dim."
        )
    return dim // heads


class QKV(nn.Module):
    """One linear layer for queries (`heads`), keys and values (`kv_heads`): `(b, n, c)` to three `(b, heads, n, d)`.

    Args:
        bias: a bias for all, for none, or "qv" for queries and values only (Swin V2, BEiT).
        norm: a norm of each head's queries and keys over its channels (query-key normalization).
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool | Literal["qv"] = True,
        norm: Spec | None = None,
        part: str = "attention",
    ):
        super().__init__()
        self.heads, self.kv_heads = heads, heads if kv_heads is None else kv_heads
        if self.kv_heads < 1 or heads % self.kv_heads:
            raise OptionError(f"{part}: kv_heads divide heads; given kv_heads={kv_heads} and heads={heads}.")
        self.head_dim = split_dim(dim, heads, head_dim, part)
        self.widths = (heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.head_dim)
        self.weight = nn.Parameter(trunc_normal(torch.empty(sum(self.widths), dim)))
        self.bias = nn.Parameter(torch.zeros(sum(self.widths))) if bias is True else None
        self.q_bias = nn.Parameter(torch.zeros(self.widths[0])) if bias == "qv" else None
        self.v_bias = nn.Parameter(torch.zeros(self.widths[2])) if bias == "qv" else None
        self.norm_q = build(norm, "norm", dim=self.head_dim) if norm is not None else None
        self.norm_k = build(norm, "norm", dim=self.head_dim) if norm is not None else None

    def forward(
        self, x: Float[Tensor, "b n c"]
    ) -> tuple[Float[Tensor, "b h n d"], Float[Tensor, "b g n d"], Float[Tensor, "b g n d"]]:
        bias = self.bias
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, self.q_bias.new_zeros(self.widths[1]), self.v_bias])
        qkv = nn.functional.linear(x, self.weight, bias).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        if self.norm_q is not None and self.norm_k is not None:
            q, k = self.norm_q(q), self.norm_k(k)
        return q, k, v


def merge_heads(y: Float[Tensor, "b h n d"]) -> Float[Tensor, "b n hd"]:
    """Heads side by side again."""
    return y.transpose(1, 2).flatten(2)
