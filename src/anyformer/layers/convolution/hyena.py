"""Hyena: gates between long convolutions whose filters a small network makes from positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.part import TokenMixer
from anyformer.core.segments import Segments
from anyformer.core.state import State, check_batch
from anyformer.kernels.long_convolution import last_output, long_convolution
from anyformer.layers.convolution.short_conv import ShortConv


class Hyena(TokenMixer):
    """v <- x_i * (h_i (*) v), over and over: products with projections, and convolutions as long as the sequence.

    Poli et al. 2023, arXiv:2302.10866, definition 3.1 and section 3.3; one value and `order` gates, each behind a short
    causal convolution. Always causal. A long filter has no state that stays small: to go on, what the filters convolve
    is kept, and the filters themselves, so that a step costs (order - 1) tokens c multiply-adds beside the projections.
    Longest sequence: `length`. Cost: tokens c ((order + 2) c + 3 (order + 1) + (order - 1) log2(tokens)) multiply-adds.

    Args:
        dim: channels.
        order: projections that gate, 2 or more.
        width, bands: hidden channels of the filters' network, and frequencies of the positions it sees.
        length: longest sequence, which positions are relative to (None: the grid's, or 1024).
        grid: of the tokens.

    Raises:
        OptionError: an order below 2, or widths below 1.
        SizeError: more tokens than `length`.
    """

    name = "hyena"
    papers = ("hyena_nd",)
    ranks = (1,)
    causality = "always"
    causal = True
    tiny = {"width": 4}

    def __init__(
        self,
        dim: int,
        *,
        order: int = 2,
        width: int = 64,
        bands: int = 1,
        length: int | None = None,
        grid: Sequence[int | None] | None = None,
    ):
        super().__init__()
        if order < 2 or min(width, bands) < 1:
            raise OptionError(
                f"hyena takes an order of 2 or more, and width and bands of 1 or more; given {order}, {width}, {bands}."
            )
        known = None if grid is None else grid[0]
        self.length = length or known or 1024
        self.order = order
        self.project = init.linear(dim, (order + 1) * dim)
        self.short = ShortConv((order + 1) * dim, taps=3, bias=True, silu=False)
        self.filters = ImplicitFilter(dim * (order - 1), self.length, width=width, bands=bands)
        self.bias = nn.Parameter(torch.randn(order - 1, dim))
        self.out = init.linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"], segments: Segments | None = None) -> Float[Tensor, "b n c"]:
        x = x if segments is None else segments.zero(x)
        self.check_length(x.shape[1])
        gates, _ = self.short(self.project(x), None, None)
        first, *gates, v = gates.chunk(self.order + 1, -1)
        for gate, kernel, bias in zip(reversed(gates), self.kernels(x.shape[1]), self.bias, strict=True):
            v = v * gate
            v = long_convolution(v, kernel) + v * bias
        return self.out(v * first)

    def kernels(self, length: int) -> Float[Tensor, "i c n"]:
        """The first `length` taps of the filters."""
        return self.filters(length).unflatten(0, (self.order - 1, -1))

    def check_length(self, tokens: int) -> None:
        """Raise `SizeError` for more tokens than the filters are long."""
        if tokens > self.length:
            raise SizeError(
                f"hyena's filters are {self.length} tokens long; given {tokens}: build it with length={tokens} or more."
            )

    def init_state(self, batch: int, *, like: Tensor) -> State:
        """The short convolution's inputs; what each filter convolves, `(b, i, 0, c)`; and its taps `(b, i, c, 0)`.

        Taps are the same in all rows; there are twice as many whenever they no longer suffice.
        """
        filters, dim = self.order - 1, self.out.out_features
        return {
            "short": self.short.init_state(batch, like=like),
            "inputs": like.new_zeros(batch, filters, 0, dim),
            "taps": like.new_zeros(batch, filters, dim, 0),
        }

    def extend(self, x: Float[Tensor, "b n c"], state: State) -> tuple[Float[Tensor, "b n c"], State]:
        """Continue after `state`, which stays good: one token by the filters' sums, several by their convolutions."""
        check_batch(state, len(x), self.name)
        end = state["inputs"].shape[2] + x.shape[1]
        self.check_length(end)
        taps = state["taps"]
        if taps.shape[-1] < end:
            taps = self.kernels(min(self.length, max(end, 2 * taps.shape[-1], 64))).expand(len(x), -1, -1, -1)
        kernels = taps.unbind(1) if x.shape[1] == 1 else self.kernels(end)
        gates, short = self.short(self.project(x), state["short"], None)
        first, *gates, v = gates.chunk(self.order + 1, -1)
        inputs = []
        for gate, kernel, bias, held in zip(
            reversed(gates), kernels, self.bias, state["inputs"].unbind(1), strict=True
        ):
            v = v * gate
            held = torch.cat([held, v], 1)
            y = last_output(held, kernel) if x.shape[1] == 1 else long_convolution(held, kernel)[:, -x.shape[1] :]
            inputs.append(held)
            v = y + v * bias
        return self.out(v * first), {"short": short, "inputs": torch.stack(inputs, 1), "taps": taps}


class ImplicitFilter(nn.Module):
    """Filters `(c, n)` from a network of sines over positions, under a decay of each channel's own.

    h_t = (sin-MLP(z_t)) exp(-|delta| t / length), with z_t the time and `bands` complex frequencies of it. Poli et al.
    2023, arXiv:2302.10866, section 3.3 and appendix D.3; the positions z are learned too, and all sines share their
    frequencies, as the authors' code has it.

    Args:
        dim: filters.
        length: tokens that they are long at most.
        width, bands: hidden channels, frequencies.
        fast, slow: shares of the length after which the fastest and the slowest decay are down to a hundredth.
    """

    decay: Tensor

    def __init__(self, dim: int, length: int, *, width: int = 64, bands: int = 1, fast: float = 0.3, slow: float = 1.5):
        super().__init__()
        time = torch.linspace(0, 1, length)[:, None]
        turns = 2 * math.pi * torch.arange(length)[:, None] / length * torch.linspace(1e-4, bands - 1, bands)
        self.positions = nn.Parameter(torch.cat([time, turns.cos(), -turns.sin()], 1))
        self.frequency = nn.Parameter(torch.ones(width))
        self.layers = nn.ModuleList([nn.Linear(1 + 2 * bands, width), nn.Linear(width, width), nn.Linear(width, width)])
        self.last = nn.Linear(width, dim, bias=False)
        rates = torch.linspace(math.log(100) / slow, math.log(100) / fast, dim)
        self.register_buffer("decay", torch.exp(-time * rates), persistent=False)

    def forward(self, length: int) -> Float[Tensor, "c n"]:
        h = self.positions[:length]
        for layer in self.layers:
            h = torch.sin(self.frequency * layer(h))
        return (self.last(h) * self.decay[:length]).t()
