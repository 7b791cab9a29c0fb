"""Clinical-Longformer: does reading all of a long note help where the word that decides may stand anywhere?

Notes of 2,048 words without meaning, behind a first token that is global. One of four words at a random place, once, is
the label. The same model, trained alike on notes cut after 512 tokens, sees that word in a quarter of them, so that it
cannot know more than 1/4 + 3/4 * 1/4 = 44 percent. All meet notes of growing length: of 32 words, of 64, and so on.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A Longformer and a Big Bird that read 2,048 tokens find what a model that reads 512 misses.",
    baseline="The same Longformer on the same notes, cut after 512 tokens; trained alike.",
    expect=(
        Expect("longformer", at_least=90.0, unit="percent of notes right"),
        Expect("bigbird", at_least=90.0, unit="percent of notes right"),
        Expect("truncated", at_most=50.0, unit="percent of notes right"),
    ),
    seeds=(1, 2, 3),
)
WORDS, LABELS, LENGTH, CUT = 32, 4, 2048, 512
STEPS, BATCH, RATE = (100, 50, 50, 50, 30, 30, 30), 16, 3e-3
SIZES = {
    "dim": 32,
    "depth": 1,
    "block.mixer.heads": 2,
    "vocab_size": WORDS + LABELS + 1,
    "num_classes": LABELS,
    "head": "pooler",
}
ARMS = {
    "longformer": ("longformer_micro", LENGTH),
    "bigbird": ("bigbird_micro", LENGTH),
    "truncated": ("longformer_micro", CUT),
}


def notes(count: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids `(count, length)`: the first token, and words of which one is that of the label; the labels."""
    ids = torch.randint(LABELS + 1, WORDS + LABELS + 1, (count, length), generator=generator)
    labels = torch.randint(LABELS, (count,), generator=generator)
    places = torch.randint(1, length, (count, 1), generator=generator)
    ids[:, 0] = 0
    return ids.scatter(1, places, labels[:, None] + 1), labels


def right(name: str, reads: int, seed: int) -> float:
    """Train on notes of growing length, of which the model reads the beginning; percent right of 512 of full length."""
    generator = torch.Generator().manual_seed(seed)
    model = create_model(name, max_length=LENGTH, **SIZES)
    shares = iter([2 ** (len(STEPS) - 1 - grown) for grown, steps in enumerate(STEPS) for _ in range(steps)])

    def loss() -> Tensor:
        share = next(shares)
        ids, labels = notes(BATCH, LENGTH // share, generator)
        return F.cross_entropy(model(ids[:, : reads // share]), labels)

    one_cycle(model, loss, steps=sum(STEPS), rate=RATE)
    ids, labels = notes(512, LENGTH, torch.Generator().manual_seed(10_000 + seed))
    with torch.no_grad():
        found = torch.cat([model(part[:, :reads]).argmax(-1) for part in ids.split(32)])
    return 100 * float((found == labels).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Percent of notes right of each model."""
    found = {}
    for name, arm in ARMS.items():
        torch.manual_seed(seed)
        found[name] = right(*arm, seed)
    return found
