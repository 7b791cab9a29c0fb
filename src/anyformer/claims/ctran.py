"""CTRAN: tags of words, with a decoder whose output i looks at word i, and with one that looks at all words.

Sentences on air travel from a grammar, where a city may be where a flight begins, ends or stops. No language model:
vectors of words are learned. Both models see the same batches for as many steps, and write the tags of new sentences by
themselves.
"""

from __future__ import annotations

from functools import cache
from itertools import count

import torch
from torch import Tensor

from anyformer.claims._loop import one_cycle
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.tasks.intents_slots import IntentsSlots

CLAIM = Claim(
    statement="A decoder aligned with the words fills slots better than one whose cross-attention sees all of them.",
    baseline="The same model with unmasked cross-attention in its decoder, trained alike.",
    expect=(Expect("gain", at_least=3.0, unit="points of slot F1, aligned minus unmasked"),),
    seeds=(1, 2),
)
STEPS, BATCH, RATE = 500, 32, 1e-3
"""The rate is the baseline's best of 3e-4, 1e-3, 3e-3 and 1e-2 on seed 0, which measures nothing here."""
CROSS = {"aligned": Spec("aligned_attention"), "unmasked": Spec("cross_attention", heads=2)}


@cache
def task() -> IntentsSlots:
    """3,000 sentences to train on, and 500 to test."""
    return IntentsSlots()


def slot_f1(cross: Spec, seed: int) -> float:
    """Train with this cross-attention; F1 of the slots of new sentences, in percent."""
    torch.manual_seed(seed)
    model = create_model("ctran_micro", **task().model_options(), **{"decoder.cross": cross})
    generator, turn = torch.Generator().manual_seed(seed), count()

    def loss() -> Tensor:
        rows = torch.randint(task().size("train"), (BATCH,), generator=generator)
        return task().loss(model, task().sample("train", rows, seed=next(turn), train=True))

    one_cycle(model, loss, steps=STEPS, rate=RATE)
    return 100 * task().evaluate(model, "test")["slot_f1"]


def measure(seed: int) -> dict[str, float]:
    """F1 of slots in percent, with either cross-attention."""
    found = {name: slot_f1(cross, seed) for name, cross in CROSS.items()}
    return {**found, "gain": found["aligned"] - found["unmasked"]}
