"""A class token visits another branch's patches and comes back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.part import Part
from anyformer.core.spec import Spec
from anyformer.layers.attention.cross.cross import CrossAttention


class ClassExchange(Part):
    """One branch's class token, as the only query over itself and the other branch's patches, projected both ways.

    y = f(class) + attention(norm([f(class), patches])), result g(y), with f and g a norm, an activation and a linear
    map to the other branch's channels and back. Chen et al. 2021 (CrossViT), arXiv:2103.14899, equations 3 to 5. Cost:
    2 patches other^2 + 2 patches other multiply-adds, and a few for one token: linear in the patches.

    Args:
        dim: channels of this branch.
        memory_dim: channels of the other (None: dim).
        heads: attention heads, over the other's channels.
        bias: biases of queries, keys and values.
        norm, act: inside.
        residual: how attention joins the class token, e.g. Spec("add").
        drop_path: share of samples that leave attention out in training.
    """

    name = "class_exchange"
    kind = "cross"
    papers = ("crossvit",)
    tiny = {"heads": 2}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        memory_dim: int | None = None,
        bias: bool = True,
        norm: Spec = Spec("layernorm"),
        act: Spec = Spec("gelu"),
        residual: Spec = Spec("add"),
        drop_path: float = 0.0,
    ):
        super().__init__()
        other = dim if memory_dim is None else memory_dim
        self.there = nn.Sequential(build(norm, "norm", dim=dim), build(act, "act"), init.linear(dim, other))
        self.norm = build(norm, "norm", dim=other)
        self.attention = CrossAttention(other, heads=heads, bias=bias)
        self.residual = build(residual, "residual", dim=other, drop_path=drop_path)
        self.back = nn.Sequential(build(norm, "norm", dim=other), build(act, "act"), init.linear(other, dim))

    def forward(self, x: Float[Tensor, "b p c"], memory: Float[Tensor, "b n o"]) -> Float[Tensor, "b p c"]:
        """Class tokens `x` of this branch, after a visit to the other branch's patches."""
        y = self.there(x)
        seen = self.norm(torch.cat([y, memory], 1))
        return self.back(self.residual(y, self.attention(seen[:, : y.shape[1]], seen)))


class NoExchange(Part):
    """The class token stays as it is: branches that never meet. Nothing to learn."""

    name = "no_exchange"
    kind = "cross"
    papers = ("crossvit",)

    def forward(self, x: Float[Tensor, "b p c"], memory: Float[Tensor, "b n o"]) -> Float[Tensor, "b p c"]:
        """`x`, whatever `memory` is."""
        return x
