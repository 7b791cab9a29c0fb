"""Ko et al. 2022, arXiv:2212.04114: exponents for groups of channels, where some want a mean and some a maximum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.lab.claim import Claim, Expect
from anyformer.layers.pooling.generalized import GeneralizedMeanPool
from anyformer.layers.pooling.pools import MeanPool, Pool

CLAIM = Claim(
    statement="Where half of the channel groups are decoded by a mean and half by a maximum, GGeM's error is at least "
    "20 % below GeM's and average pooling's.",
    baseline="GeM (one exponent for all channels) and the mean, each with a linear layer, the same steps and the best "
    "of the same learning rates on a validation part.",
    expect=(
        Expect("below_gem", at_least=20.0, unit="percent less squared error"),
        Expect("below_mean", at_least=20.0, unit="percent less squared error"),
    ),
    seeds=(1, 2, 3),
)
TOKENS, CHANNELS, GROUPS = 49, 16, 4
COUNTS = {"train": 4096, "valid": 512, "test": 1024}
STEPS, BATCH, RATES = 400, 256, (1e-2, 3e-2)


def tokens(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positive tokens `(n, 49, 16)`, and targets `(n, 4)`: mixtures of the means of two groups, the maxima of two.

    Values of a sample and channel are u^k, u uniform in [0, 1], with a k of their own: neither tells of the other.
    """
    u = torch.rand(n, TOKENS, CHANNELS, generator=generator)
    k = 0.5 + 4 * torch.rand(n, 1, CHANNELS, generator=generator)
    x = u**k * (0.5 + torch.rand(n, 1, CHANNELS, generator=generator))
    mean, top = x[..., : CHANNELS // 2].mean(1), x[..., CHANNELS // 2 :].amax(1)
    pooled = torch.cat([mean, top], 1)
    mixing = torch.randn(CHANNELS, 4, generator=torch.Generator().manual_seed(0))
    return x, (pooled @ mixing) / CHANNELS**0.5


def error(pool: Pool, data: dict[str, tuple[Tensor, Tensor]], rate: float, seed: int) -> dict[str, float]:
    """Mean squared errors, as shares of the targets' variance, of pooling and a linear layer after training."""
    torch.manual_seed(seed)
    linear = nn.Linear(CHANNELS, 4)
    optimizer = torch.optim.Adam([*pool.parameters(), *linear.parameters()], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(seed)
    x, y = data["train"]
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        loss = (linear(pool(x[rows])) - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return {split: float((linear(pool(x)) - y).square().mean() / y.var(0).mean()) for split, (x, y) in data.items()}


def measure(seed: int) -> dict[str, float]:
    """Test errors of the three ways to pool, each at the rate that the validation part prefers."""
    generator = torch.Generator().manual_seed(seed)
    data = {split: tokens(n, generator) for split, n in COUNTS.items()}
    pools = {
        "ggem": lambda: GeneralizedMeanPool(CHANNELS, groups=GROUPS),
        "gem": lambda: GeneralizedMeanPool(CHANNELS),
        "mean": MeanPool,
    }
    found = {}
    for name, make in pools.items():
        tried = [error(make(), data, rate, seed) for rate in RATES]
        found[name] = min(tried, key=lambda e: e["valid"])["test"]
    return found | {f"below_{n}": 100 * (1 - found["ggem"] / found[n]) for n in ("gem", "mean")}
