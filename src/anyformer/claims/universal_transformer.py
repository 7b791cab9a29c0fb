"""Universal Transformer: reversing short strings with one block applied four times, once, and with four blocks.

Strings of 8 to 12 symbols, the last of which is an end mark; each place is asked which symbol stands there in the
string read backwards, so that it has to find the end first. Accuracy is that of symbols of new strings. At length 20,
which nobody was trained on, it is reported and nothing is expected. Sorting, tried on seed 0, is no task to tell them
apart: the block applied once has 97 percent of its symbols right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="One block applied four times reverses strings better than once, at equal parameters.",
    baseline="The same block once, trained alike; beside it four blocks with weights of their own.",
    expect=(Expect("gain", at_least=10.0, unit="points of symbols right"),),
    seeds=(1, 2, 3),
)
SYMBOLS, SHORTEST, LONGEST, BEYOND = 15, 8, 12, 20
DIM, STEPS, BATCH, RATE = 32, 400, 64, 4e-3


def make(kind: str) -> Any:
    """An encoder: the block "four" times, "once", or four blocks ("vanilla")."""
    block = Spec("prenorm", mixer=Spec("attention", heads=4), ffn=Spec("mlp", ratio=2.0, act=Spec("relu")))
    repeated = Spec("universal", block=block, steps=1 if kind == "once" else 4)
    model = Spec(
        "encoder",
        dim=DIM,
        depth=4 if kind == "vanilla" else 1,
        block=block if kind == "vanilla" else repeated,
        position=Spec("sinusoidal") if kind == "vanilla" else None,
        embed=Spec("token", scale=DIM**0.5, std=DIM**-0.5),
        vocab_size=SYMBOLS + 1,
        norm=Spec("layernorm"),
        head=Spec("masked_lm"),
    )
    return create_model(model.set(init="fan_in"))


def strings(count: int, lengths: Tensor, longest: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Segments]:
    """Strings `(b, longest)` that close with an end mark, the same backwards, and where they are."""
    symbols = torch.randint(SYMBOLS, (count, longest), generator=generator)
    symbols[torch.arange(count), lengths - 1] = SYMBOLS
    backwards = symbols.gather(1, (lengths[:, None] - 1 - torch.arange(longest)) % longest)
    return symbols, backwards, Segments.from_lengths(lengths, longest)


def batch(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Segments]:
    """Strings of the lengths that are trained on."""
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator)
    return strings(count, lengths, LONGEST, generator)


def right(model: Any, given: tuple[Tensor, Tensor, Segments]) -> float:
    """Percent of symbols."""
    symbols, backwards, segments = given
    with torch.no_grad():
        return 100 * float((model(symbols, segments).argmax(-1) == backwards)[segments.valid].float().mean())


def trained(kind: str, seed: int) -> Any:
    """The encoder that reverses."""
    torch.manual_seed(seed)
    model, generator = make(kind), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        symbols, backwards, segments = batch(BATCH, generator)
        return F.cross_entropy(model(symbols, segments)[segments.valid], backwards[segments.valid])

    return one_cycle(model, loss, steps=STEPS, rate=RATE, warm=0.2)


def measure(seed: int) -> dict[str, float]:
    """Symbols right in percent, at lengths trained on and at 20."""
    found = {}
    for kind in ("four", "once", "vanilla"):
        model = trained(kind, seed)
        generator = torch.Generator().manual_seed(10_000 + seed)
        found[kind] = right(model, batch(1024, generator))
        found[f"{kind}_at_20"] = right(model, strings(1024, torch.full((1024,), BEYOND), BEYOND, generator))
    return found | {"gain": found["four"] - found["once"]}
