"""The spatial gating unit: a linear layer over the tokens that gates an MLP's hidden channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import trunc_normal
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State, check_batch
from anyformer.kernels.reuse import overwritable
from anyformer.layers.attention.projection import QKV, merge_heads
from anyformer.layers.attention.scoring.softmax import Softmax
from anyformer.layers.feedforward.mlp import activated
from anyformer.layers.pooling.mixing import check_grid, known_grid


class SpatialGating(TokenMixer):
    """V (z1 * (W norm(z2) + b)) with z1, z2 the halves of act(U x), and W a matrix over the tokens.

    W starts near 0 and b at 1, so that each token first stands alone. Liu et al. 2021 (gMLP), arXiv:2105.08050,
    equations 1 to 4; with `attention`, tiny attention is added to the gate (aMLP).
    Cost: tokens^2 c ratio / 2 + 1.5 tokens c^2 ratio multiply-adds. For one grid; with `causal`, for up to as many
    tokens when they come one after the other.

    Args:
        dim: channels.
        grid: the grid that W is built for.
        ratio: hidden channels per channel, both halves together.
        act: activation of the hidden channels.
        norm: norm of the gating half.
        projection: W is any matrix ("dense"), or one weight per offset between tokens ("toeplitz").
        attention: channels of the single head of tiny attention (64 in aMLP); 0 for none.
        causal: W sees earlier tokens only.

    Raises:
        OptionError: an odd number of hidden channels, or a grid that is not known when the mixer is built.
        SizeError: another grid than it was built for.
    """

    name = "spatial_gating"
    papers = ("gmlp",)
    causality = "option"
    cost = 2.0
    fixed_grid = True
    tiny = {"grid": (4, 4), "ratio": 2.0}

    def __init__(
        self,
        dim: int,
        *,
        grid: Sequence[int | None],
        ratio: float = 6.0,
        act: Spec = Spec("gelu"),
        norm: Spec = Spec("layernorm"),
        projection: Literal["dense", "toeplitz"] = "dense",
        attention: int = 0,
        causal: bool = False,
    ):
        super().__init__()
        hidden = int(dim * ratio)
        if hidden % 2:
            raise OptionError(
                f"spatial_gating splits its {hidden} hidden channels (dim={dim} times ratio={ratio:g}) into halves: "
                f"take a ratio that makes them even, such as {(hidden + 1) / dim:g}."
            )
        self.causal, self.grid = causal, known_grid(self.name, grid)
        tokens = math.prod(self.grid)
        self.up = init.linear(dim, hidden)
        self.act = build(act, "act")
        self.norm = build(norm, "norm", dim=hidden // 2)
        self.project = DenseOverTokens(tokens) if projection == "dense" else ToeplitzOverTokens(tokens)
        self.attention = TinyAttention(dim, hidden // 2, attention) if attention else None
        self.down = init.linear(hidden // 2, dim)

    def forward(self, x: Float[Tensor, "b *grid c"], segments: Segments | None = None) -> Float[Tensor, "b *grid c"]:
        check_grid(self.name, x.shape[1:-1], self.grid)
        tokens = x.flatten(1, -2)
        first, second = activated(self.up, self.act, tokens).chunk(2, -1)
        second = self.norm(second)
        if segments is not None:
            second = segments.flat().zero(second)
        weight = self.weight().expand(len(x), -1, -1)
        gate = torch.baddbmm(self.project.bias[:, None], weight, second)
        if self.attention is not None:
            mask = segments.pairs() if segments is not None else None
            q, k, v = self.attention.qkv(tokens)
            gate = gate + self.attention.mix(q, k, v, mask, self.causal)
        gate = gate.mul_(first) if overwritable(gate, first) else first * gate
        return self.down(gate).view_as(x)

    def weight(self) -> Float[Tensor, "n n"]:
        """W: what each token (row) takes from each token (column)."""
        weight = self.project.matrix()
        return weight.tril() if self.causal else weight

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """No gating half, keys and values yet: `(b, 0, c)` each."""
        state = {"second": like.new_empty(batch, 0, self.down.in_features)}
        if self.attention is not None:
            width = self.attention.qkv.head_dim
            state |= {name: like.new_empty(batch, 1, 0, width) for name in ("k", "v")}
        return state

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Tensor, State]:
        check_batch(state, len(x), self.name)
        start, room = state["second"].shape[1], math.prod(self.grid)
        end = start + x.shape[1]
        if end > room:
            raise SizeError(
                f"{self.name} was built for {room} tokens and is given token {end}: build the model for longer input."
            )
        first, second = activated(self.up, self.act, x).chunk(2, -1)
        new = {"second": torch.cat([state["second"], self.norm(second)], 1)}
        gate = self.weight()[start:end, :end] @ new["second"] + self.project.bias[start:end, None]
        if self.attention is not None:
            q, k, v = self.attention.qkv(x)
            new |= {"k": torch.cat([state["k"], k], 2), "v": torch.cat([state["v"], v], 2)}
            gate = gate + self.attention.mix(q, new["k"], new["v"], None, True)
        return self.down(first * gate), new


class DenseOverTokens(nn.Module):
    """A matrix over the tokens and a bias per token, near 0 and at 1."""

    def __init__(self, tokens: int):
        super().__init__()
        self.weight = nn.Parameter(trunc_normal(torch.empty(tokens, tokens), 1e-6))
        self.bias = nn.Parameter(torch.ones(tokens))

    def matrix(self) -> Float[Tensor, "n n"]:
        return self.weight


class ToeplitzOverTokens(nn.Module):
    """A weight per offset between two tokens, earliest first, and a bias per token, near 0 and at 1."""

    offsets: Tensor

    def __init__(self, tokens: int):
        super().__init__()
        self.weight = nn.Parameter(trunc_normal(torch.empty(2 * tokens - 1), 1e-6))
        self.bias = nn.Parameter(torch.ones(tokens))
        steps = torch.arange(tokens)
        self.register_buffer("offsets", steps[None, :] - steps[:, None] + tokens - 1, persistent=False)

    def matrix(self) -> Float[Tensor, "n n"]:
        return self.weight[self.offsets]


class TinyAttention(nn.Module):
    """Attention with one narrow head, from `dim` channels to `out`."""

    def __init__(self, dim: int, out: int, head_dim: int):
        super().__init__()
        self.qkv = QKV(dim, heads=1, head_dim=head_dim, part="tiny attention")
        self.scoring = Softmax()
        self.out = init.linear(head_dim, out)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Float[Tensor, "b n out"]:
        """What attention adds to the gate."""
        return self.out(merge_heads(self.scoring(q, k, v, mask=mask, causal=causal)))
