"""Hybrids of Mamba-2 and attention: looking names up in a phone book that is longer than a state can hold.

24 pairs of a name and a number, both drawn anew for every book, and then all the names in another order: what is each
one's number? Attention finds the pair where it stands. A state of 4 rows a head has no room for 24 names; the paper
measures the same with books of thousands of entries and states of 128. Books of 2 to 24 pairs are trained on, so that
looking up is learned where a state has room.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.language.mamba2_hybrid import allocate, hybrid

CLAIM = Claim(
    statement="Where more has to be looked up than a state can hold, a hybrid with one layer of attention in four "
    "finds what pure Mamba-2 does not.",
    baseline="Mamba-2 alone, of as many layers and parameters, trained on the same books.",
    expect=(Expect("gain", at_least=20.0, unit="points of numbers right"),),
    seeds=(1, 2),
)
PAIRS, NAMES, NUMBERS = 24, 48, 8
FEW = 3
"""Pairs of a book that a state has room for."""
DIM, DEPTH, STATE, STEPS, BATCH, RATE = 48, 4, 4, 500, 32, 8e-3


def books(count: int, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(b, 3 pairs)`, names and numbers in turn and then the names to look up, and the numbers of these."""
    names = torch.rand(count, NAMES, generator=generator).argsort(1)[:, :pairs]
    numbers = torch.randint(NUMBERS, (count, pairs), generator=generator)
    order = torch.rand(count, pairs, generator=generator).argsort(1)
    book = torch.stack([names, NAMES + numbers], 2).flatten(1)
    return torch.cat([book, names.gather(1, order)], 1), numbers.gather(1, order)


def network(pattern: str) -> nn.Module:
    """A model of these layers; heads of attention are as wide as makes its layer as large as one of Mamba-2."""
    sizes = {"heads": 4, "kv_heads": 4, "head_dim": 20, "hidden": DIM, "state": STATE, "groups": 1}
    spec = hybrid(pattern, DIM, mamba_head_dim=24, vocab_size=NAMES + NUMBERS, max_length=3 * PAIRS, **sizes)
    return create_model(spec.set(init="fan_in"))


def train(model: nn.Module, seed: int) -> nn.Module:
    """Read books of all lengths, each batch of one."""
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        pairs = int(torch.randint(2, PAIRS + 1, (1,), generator=generator))
        ids, numbers = books(BATCH, pairs, generator)
        return F.cross_entropy(model(ids)[:, 2 * pairs :, NAMES:].flatten(0, 1), numbers.flatten())

    return one_cycle(model, loss, steps=STEPS, rate=RATE)


def right(model: nn.Module, pairs: int, seed: int) -> float:
    """Percent of numbers that are right in 256 new books of so many pairs."""
    ids, numbers = books(256, pairs, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        return 100 * float((model(ids)[:, 2 * pairs :, NAMES:].argmax(-1) == numbers).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Percent of numbers right by both, also in short books, and how many parameters more or less the hybrid has."""
    patterns = {"hybrid": allocate(DEPTH, mamba=0.75, attention=0.25, mlp=0.0), "mamba2": "M" * DEPTH}
    found, sizes = {}, {}
    for name, pattern in patterns.items():
        torch.manual_seed(seed)
        model = network(pattern)
        sizes[name] = sum(p.numel() for p in model.parameters())
        train(model, seed)
        found[name] = right(model, PAIRS, seed)
        found[f"{name}_of_{FEW}"] = right(model, FEW, seed)
    more = 100 * (sizes["hybrid"] / sizes["mamba2"] - 1)
    return {**found, "gain": found["hybrid"] - found["mamba2"], "more_parameters_percent": more}
