"""Attention to a short list of keys: many tokens that do not matter become one, few that do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import merge_heads, split_dim
from anyformer.layers.convolution.depthwise import DepthwiseConv


class SelfGuidedAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v + DW(P x) with keys merged by the significance of the tokens.

    Ren et al. 2023 (SG-Former), arXiv:2308.12216, section 3.2, "self-guided attention". Tokens are sorted by their
    significance, the least first, and cut into parts; in part i, every `rates[i]` tokens in a row become one by learned
    weights that all channels share. Half of the heads take the list of the map read row by row, half that of the map
    read column by column, which differ where tokens matter alike. Needs a significance map, such as
    `HybridScaleAttention` gives, so it is no token mixer by itself: `self_guided_pair` has both.
    Cost: 2 tokens keys c + (3 tokens + keys) c^2 multiply-adds, with keys = sum of tokens shares_i / rates_i.

    Args:
        dim: channels.
        heads: attention heads; even.
        shares: of the tokens that each part has, as in 1:2:1.
        rates: tokens of each part that become one.
        bias: biases of queries, keys and values.
        local: tokens along each axis that the convolution covers; odd.
        scoring: from scores to outputs.
        grid: only its rank counts.

    Raises:
        OptionError: an odd number of heads; not one rate of 1 or more for each share.
        FitError: no significance map.
        SizeError: a number of tokens that the parts and rates do not divide.
    """

    name = "self_guided"
    papers = ("sg_former",)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        shares: Sequence[int] = (1, 2, 1),
        rates: Sequence[int] = (196, 56, 28),
        bias: bool = True,
        local: int = 3,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] = (None, None),
    ):
        super().__init__()
        if heads % 2 or len(shares) != len(rates) or not shares or min(*shares, *rates) < 1:
            raise OptionError(
                f"{self.name} takes an even number of heads, and a share and a rate of 1 or more for each part; given "
                f"heads={heads}, shares {tuple(shares)}, rates {tuple(rates)}."
            )
        self.head_dim = split_dim(dim, heads, None, self.name)
        self.shares, self.rates = tuple(shares), tuple(rates)
        self.q = init.linear(dim, dim, bias)
        self.merges = nn.ModuleList(init.linear(rate, 1) for rate in rates)
        self.kv_rows, self.kv_columns = init.linear(dim, dim, bias), init.linear(dim, dim, bias)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.position = init.linear(dim, dim)
        self.local = DepthwiseConv(dim, kernel=local, std=local ** (-len(grid) / 2), grid=grid)
        self.out = init.linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "b *grid c"],
        significance: Float[Tensor, "b *grid"] | None,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b *grid c"]:
        """`significance`: how much each token matters. Padded tokens count as zero, and for the least."""
        if significance is None:
            raise FitError(
                f"{self.name} attention merges tokens by their significance, and there is no map of it: a "
                "hybrid_scale block comes first, as in self_guided_pair."
            )
        source = x
        if segments is not None:
            source, significance = segments.zero(x), significance.masked_fill(~segments.valid, -1.0)
        lists = [self.merged(source, significance), self.merged(source.transpose(1, -2), significance.transpose(1, -1))]
        pairs = [
            self._heads(layer(tokens)).chunk(2, dim=1)
            for layer, tokens in zip((self.kv_rows, self.kv_columns), lists, strict=True)
        ]
        k, v = (torch.cat(halves, 1) for halves in zip(*pairs, strict=True))
        y = self.scoring(self._heads(self.q(x).flatten(1, -2)), k, v)
        return self.out(merge_heads(y).view_as(x) + self.local(self.position(x), segments))

    def merged(
        self, x: Float[Tensor, "b *grid c"], significance: Float[Tensor, "b *grid"]
    ) -> Float[Tensor, "b keys c"]:
        """The short list of keys, the least significant first; of tokens that matter alike, the earlier one is."""
        tokens = x.flatten(1, -2)
        order = significance.flatten(1).argsort(dim=1, stable=True)
        tokens = tokens.gather(1, order[..., None].expand_as(tokens))
        parts = tokens.split(self.counts(tokens.shape[1]), 1)
        runs = [
            merge(part.unflatten(1, (-1, rate)).transpose(2, 3))[..., 0]
            for merge, part, rate in zip(self.merges, parts, self.rates, strict=True)
        ]
        return torch.cat(runs, 1)

    def counts(self, tokens: int) -> list[int]:
        """Tokens of each part. Raises `SizeError` where they are no whole numbers of runs."""
        total = sum(self.shares)
        least = math.lcm(
            *(
                total * rate // math.gcd(total * rate, share)
                for share, rate in zip(self.shares, self.rates, strict=True)
            )
        )
        if tokens % least:
            near = max(1, round(tokens / least)) * least
            raise SizeError(
                f"{self.name} attention with parts {':'.join(map(str, self.shares))} merged at the rates "
                f"{', '.join(map(str, self.rates))}: a map of {tokens} tokens is not made of whole runs; maps that fit "
                f"have multiples of {least} tokens, the nearest {near} (published rates are made for 224x224 pixels)."
            )
        return [tokens * share // total for share in self.shares]

    def _heads(self, x: Float[Tensor, "b n hd"]) -> Float[Tensor, "b h n d"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
