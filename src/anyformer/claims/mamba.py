"""Mamba: selective copying, with a state space that chooses by the token and with one that treats all tokens alike.

32 tokens, 4 of which carry a symbol at places that change from sample to sample, among noise; then 4 marks at which the
symbols are asked for in their order. A convolution can copy from a fixed distance; here the distance is in the content.
Without selection, step size and input and output maps are learned but the same for every token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.segments import Segments
from anyformer.kernels.causal_conv import causal_conv
from anyformer.kernels.selective_scan import selective_scan
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.recurrence.mamba import Mamba
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A state space whose parameters depend on the token solves selective copying; one that is the same for "
    "every token does not.",
    baseline="The same network, trained alike, with input-independent step size, B and C.",
    expect=(
        Expect("selective", at_least=95.0, unit="symbols right, percent"),
        Expect("gain", at_least=25.0, unit="points of symbols right"),
    ),
    seeds=(1, 2),
)
NOISE, MARK, SYMBOLS = 0, 1, 8
LENGTH, COPIED = 32, 4
DIM, DEPTH, STEPS, BATCH, RATE = 32, 2, 600, 32, 1e-2


def samples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(b, 36)`, and the symbols `(b, 4)` asked for at the last four."""
    places = torch.rand(count, LENGTH, generator=generator).argsort(1)[:, :COPIED].sort(1).values
    symbols = torch.randint(2, 2 + SYMBOLS, (count, COPIED), generator=generator)
    ids = torch.full((count, LENGTH + COPIED), NOISE)
    ids[:, LENGTH:] = MARK
    return ids.scatter(1, places, symbols), symbols


class TimeInvariant(Mamba):
    """Mamba whose step size, B and C are parameters of each channel instead of functions of the token (S4's form)."""

    def __init__(self, dim: int):
        super().__init__(dim)
        inner, states = self.A_log.shape
        self.delta = nn.Parameter(self.dt_proj.bias.detach().clone())
        self.B = nn.Parameter(torch.randn(inner, states))
        self.C = nn.Parameter(torch.randn(inner, states) / states**0.5)
        del self.x_proj, self.dt_proj

    def forward(self, x: Tensor, segments: Segments | None = None) -> Tensor:
        u, z = self.in_proj(x).chunk(2, -1)
        u, _ = causal_conv(u, self.conv1d.weight[:, 0], self.conv1d.bias, silu=True)
        options = {"D": self.D, "z": z, "delta_bias": self.delta, "delta_softplus": True}
        y, _ = selective_scan(u, torch.zeros_like(u), -self.A_log.exp(), self.B, self.C, **options)
        return self.out_proj(y)


def network(selective: bool) -> nn.Module:
    """A Mamba of two blocks, or the same with `TimeInvariant` mixers."""
    model = create_model("mamba_micro", dim=DIM, depth=DEPTH, vocab_size=2 + SYMBOLS)
    if not selective:
        for i in range(DEPTH):
            model.get_submodule(f"blocks.{i}").mixer = TimeInvariant(DIM)
    return model


def right(model: nn.Module, seed: int) -> float:
    """Train, then read 1,024 new samples: percent of symbols that are right."""
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        ids, symbols = samples(BATCH, generator)
        return F.cross_entropy(model(ids)[:, LENGTH:].flatten(0, 1), symbols.flatten())

    one_cycle(model, loss, steps=STEPS, rate=RATE)
    ids, symbols = samples(1024, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        return 100 * float((model(ids)[:, LENGTH:].argmax(-1) == symbols).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Percent of symbols right, selective and not."""
    found = {}
    for name, selective in {"selective": True, "time_invariant": False}.items():
        torch.manual_seed(seed)
        found[name] = right(network(selective), seed)
    return {**found, "gain": found["selective"] - found["time_invariant"]}
