"""BDH: does it read on from what stands in its synapses, where the same segment comes a second time?

Sequences of 16 random symbols, twice. In the first copy nothing can be foreseen; in the second everything can, by who
remembers what followed. A bigram model, which knows for each symbol how often which other follows, is as wrong in both.
The losses are those of the 15 symbols of each copy that have one of the same copy before them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="What BDH has written into its synapses lets it foresee a segment that it reads for the second time.",
    baseline="A bigram model counted over the same training sequences (add-one smoothed).",
    expect=(
        Expect("loss_ratio", at_most=0.5, unit="loss on the second copy over loss on the first"),
        Expect("bigram_difference", at_most=5.0, unit="percent between the bigram model's losses on both"),
    ),
    seeds=(1, 2),
)
SYMBOLS, SEGMENT = 32, 16
STEPS, BATCH, RATE = 275, 32, 2e-3


def sequences(count: int, generator: torch.Generator) -> Tensor:
    """`(b, 32)`: a segment, twice."""
    segment = torch.randint(SYMBOLS, (count, SEGMENT), generator=generator)
    return torch.cat([segment, segment], 1)


def by_copy(losses: Tensor) -> tuple[float, float]:
    """Means over the first and over the second copy of losses `(b, 31)` of the symbols after the first."""
    return float(losses[:, : SEGMENT - 1].mean()), float(losses[:, SEGMENT:].mean())


def trained(generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    """A BDH, and how often which symbol followed which in its training, `(32, 32)`."""
    model = create_model("bdh_micro", vocab_size=SYMBOLS, max_length=2 * SEGMENT)
    counts = torch.ones(SYMBOLS, SYMBOLS)

    def loss() -> Tensor:
        ids = sequences(BATCH, generator)
        pairs = ids[:, :-1] * SYMBOLS + ids[:, 1:]
        counts.add_(pairs.flatten().bincount(minlength=SYMBOLS**2).view(SYMBOLS, SYMBOLS))
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    return one_cycle(model, loss, steps=STEPS, rate=RATE), counts


def measure(seed: int) -> dict[str, float]:
    """Losses of both on 1,024 new sequences, by copy."""
    torch.manual_seed(seed)
    model, counts = trained(torch.Generator().manual_seed(seed))
    ids = sequences(1024, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        logits = model(ids[:, :-1])
    losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    bigram = -(counts / counts.sum(1, keepdim=True)).log()[ids[:, :-1], ids[:, 1:]]
    (first, second), (bigram_first, bigram_second) = by_copy(losses), by_copy(bigram)
    return {
        "first": first,
        "second": second,
        "loss_ratio": second / first,
        "bigram_first": bigram_first,
        "bigram_second": bigram_second,
        "bigram_difference": 100 * abs(bigram_second / bigram_first - 1),
    }
