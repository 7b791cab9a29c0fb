"""Reactive Transformer: a pair of a key and a value is told in the first turn, and asked for in the third.

A turn is three ids: TELL, key, value, or ASK, key, value. The second turn tells another pair, of another key. The third
asks for the first turn's value, which is nowhere but in the memory by then. Trained through all three turns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A memory of fixed size carries what was told in one turn to a later one.",
    baseline="The same trained model with its memory reset before every turn.",
    expect=(
        Expect("recall", at_least=0.8, unit="share of values right"),
        Expect("recall_reset", at_most=1 / 8 + 0.1, unit="share of values right, memory reset before every turn"),
    ),
    seeds=(1, 2, 3),
)
KEYS, VALUES, TURN = 8, 8, 3
TELL, ASK = KEYS + VALUES, KEYS + VALUES + 1
STEPS, BATCH, RATE = 300, 64, 5e-3


def dialogues(count: int, generator: torch.Generator) -> Tensor:
    """Ids `(b, 9)` of three turns."""
    keys = torch.rand(count, KEYS, generator=generator).argsort(1)[:, :2]
    values = torch.randint(VALUES, (count, 2), generator=generator) + KEYS
    told = torch.stack([torch.full_like(keys, TELL), keys, values], -1)
    asked = told[:, 0].clone()
    asked[:, 0] = ASK
    return torch.cat([told.flatten(1), asked], 1)


def recall(model: Any, ids: Tensor, reset: bool) -> float:
    """The share of values that are right in the third turn."""
    with torch.no_grad():
        logits = model(ids[:, -TURN:] if reset else ids)
    return float((logits[:, -2].argmax(-1) == ids[:, -1]).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Shares of values right, with the memory and with one that is reset."""
    torch.manual_seed(seed)
    model: Any = create_model("rxt_micro", depth=1, vocab_size=ASK + 1, turn=TURN, slots=8)
    generator = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        ids = dialogues(BATCH, generator)
        return F.cross_entropy(model(ids)[:, -2], ids[:, -1])

    one_cycle(model, loss, steps=STEPS, rate=RATE)
    ids = dialogues(2048, torch.Generator().manual_seed(10_000 + seed))
    return {"recall": recall(model, ids, False), "recall_reset": recall(model, ids, True)}
