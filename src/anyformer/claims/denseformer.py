"""DenseFormer: repeating raw symbols at the end of a deep, narrow stream, with and without averages over depth.

Six symbols, six others that only distract, a mark, and the six symbols again: what follows each is a raw symbol of the
beginning, which eight blocks of 16 channels have mixed with much else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.language.denseformer import denseformer

CLAIM = Claim(
    statement="Averages over depth hand raw tokens on to late blocks, and lower the loss after as many steps.",
    baseline="The same decoder with the averages frozen as they start, which is a plain Transformer; trained alike.",
    expect=(
        Expect("gain", at_least=1.0, unit="percent of the plain model's validation loss"),
        Expect("weight_on_input", at_least=0.01, unit="mean absolute weight of the raw tokens after the first block"),
    ),
    seeds=(1, 2, 3),
)
SYMBOLS, COPIED, NOISE = 8, 6, 6
MARK = 2 * SYMBOLS
LENGTH = COPIED + NOISE + 1 + COPIED
DIM, DEPTH, STEPS, BATCH, RATE = 16, 8, 150, 32, 5e-3


def samples(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(b, 19)` (symbols, noise, the mark, the symbols), and what follows the mark, `(b, 6)`."""
    symbols = torch.randint(SYMBOLS, (count, COPIED), generator=generator)
    noise = torch.randint(SYMBOLS, (count, NOISE), generator=generator) + SYMBOLS
    mark = torch.full((count, 1), MARK)
    return torch.cat([symbols, noise, mark, symbols], 1), symbols


def loss(model: nn.Module, count: int, generator: torch.Generator) -> Tensor:
    """Cross-entropy of what follows the mark."""
    ids, answers = samples(count, generator)
    return F.cross_entropy(model(ids[:, :-1])[:, -COPIED:].flatten(0, 1), answers.flatten())


def trained(averages: bool, seed: int) -> Any:
    """The decoder, with averages that learn or stay as they start."""
    torch.manual_seed(seed)
    spec = denseformer(DIM, DEPTH, 2, ratio=2.0, vocab_size=MARK + 1, max_length=LENGTH)
    model: Any = create_model(spec.set(init="fan_in"))
    model.blocks[0].weights.requires_grad_(averages)
    generator = torch.Generator().manual_seed(seed)
    return one_cycle(model, lambda: loss(model, BATCH, generator), steps=STEPS, rate=RATE)


def measure(seed: int) -> dict[str, float]:
    """Validation losses of both, and the weight of the raw tokens in averages after the first block's."""
    found = {}
    for name, averages in {"dense": True, "plain": False}.items():
        model = trained(averages, seed)
        with torch.no_grad():
            found[f"{name}_loss"] = float(loss(model, 1024, torch.Generator().manual_seed(10_000 + seed)))
        if averages:
            found["weight_on_input"] = float(model.blocks[0].matrix()[1:, 0].abs().mean())
    return found | {"gain": 100 * (1 - found["dense_loss"] / found["plain_loss"])}
