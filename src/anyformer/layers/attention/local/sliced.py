"""Attention inside slices of the token sequence; another number of slices in each repeat of a recursive block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.attention.projection import QKV, merge_heads

GOLDEN = (math.sqrt(5) - 1) / 2


class SlicedAttention(TokenMixer):
    """Softmax attention inside groups of neighbouring tokens of the flattened grid, with weights for all repeats.

    In repeat r of a recursive block tokens are cut into `groups[r]` slices. From the second repeat on, where there are
    several slices, tokens are permuted before and put back after it, so that slices exchange what they hold: at random
    in training, by `spread` in evaluation, so that an answer depends on nothing but the image. Shen et al. 2021 (SReT),
    arXiv:2111.05297, section 3. Cost: 2 tokens^2 c / groups + 4 tokens c^2 multiply-adds.

    Args:
        dim: channels.
        heads: heads; they divide the channels.
        groups: slices in each repeat; the last number holds for all further ones. 1 is plain attention.
        bias: of queries, keys and values.
        scoring: from scores to outputs.
        grid: the grid that it is built for, to see at once whether slices divide it.

    Raises:
        OptionError: no group in a repeat.
        SizeError: tokens that the groups do not divide.
    """

    name = "sliced"
    papers = ("sret",)
    cost = 2.0
    per_repeat = True
    tiny = {"heads": 2, "groups": (2, 1)}

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        groups: Sequence[int] = (1,),
        bias: bool = True,
        scoring: Spec = Spec("softmax"),
        grid: Sequence[int | None] | None = None,
    ):
        super().__init__()
        self.groups = tuple(groups)
        if not self.groups or min(self.groups) < 1:
            raise OptionError(f"{self.name}.groups are 1 or more in every repeat, as in (8, 2); given {self.groups}.")
        known = [g for g in grid or () if g is not None]
        if grid is not None and len(known) == len(tuple(grid)):
            for count in self.groups:
                self.check(math.prod(known), count)
        self.qkv = QKV(dim, heads=heads, bias=bias, part=self.name)
        self.scoring = build(scoring, "scoring", heads=heads)
        self.out = init.linear(dim, dim)

    def check(self, tokens: int, groups: int) -> None:
        """Raise `SizeError` where groups do not divide the tokens."""
        if tokens % groups:
            fits = [g for g in range(1, min(tokens, 64) + 1) if tokens % g == 0]
            raise SizeError(
                f"{self.name}: {tokens} tokens are not made of {groups} groups of the same size; groups that fit: "
                f"{', '.join(map(str, fits))}. Give another image size, or other groups."
            )

    def order(self, tokens: int, device: torch.device) -> Int[Tensor, "n"]:
        """How tokens are permuted: anew each time in training, by `spread` in evaluation."""
        return torch.randperm(tokens, device=device) if self.training else spread(tokens, device)

    def forward(
        self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None, repeat: int = 0
    ) -> Float[Tensor, "b *grid c"]:
        tokens = x.flatten(1, -2)
        n, groups = tokens.shape[1], self.groups[min(repeat, len(self.groups) - 1)]
        self.check(n, groups)
        order = self.order(n, x.device) if repeat and groups > 1 else None
        valid = None if segments is None else segments.flat().valid
        if order is not None:
            tokens = tokens[:, order]
            valid = None if valid is None else valid[:, order]
        q, k, v = self.qkv(tokens.unflatten(1, (groups, -1)).flatten(0, 1))
        mask = None if valid is None else valid.unflatten(1, (groups, -1)).flatten(0, 1)[:, None, None]
        y = merge_heads(self.scoring(q, k, v, mask=mask)).unflatten(0, (-1, groups)).flatten(1, 2)
        if order is not None:
            y = y[:, order.argsort()]
        return self.out(y).view_as(x)


def spread(tokens: int, device: torch.device) -> Int[Tensor, "n"]:
    """A fixed permutation: steps of about the golden section of the sequence, so that every slice is spread over it."""
    step = max(1, round(tokens * GOLDEN))
    while math.gcd(step, tokens) > 1:
        step += 1
    return torch.arange(tokens, device=device) * step % tokens
