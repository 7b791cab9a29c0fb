"""One Wide FFN: reversing sequences of digits and mapping each, with feed-forward layers in every layer, or with one.

8 to 12 symbols of 10; the target is the sequence backwards, every symbol replaced by its partner of a fixed
permutation. Accuracy is that of symbols written greedily. Time is of writing one sequence alone, encoding included, the
least of twenty runs, in turn.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.segments import Segments
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.models.language.one_wide_ffn import shared_ffn, wide

CLAIM = Claim(
    statement="One feed-forward layer for the whole encoder, none in the decoder, costs little; widened to the size of "
    "all, nothing, and it writes faster.",
    baseline="The plain Transformer, trained alike on the same batches.",
    expect=(
        Expect("share", at_most=70.0, unit="percent of the parameters, one layer of the old width"),
        Expect("behind_shared", at_most=3.0, unit="points of symbols right"),
        Expect("behind_wide", at_most=1.0, unit="points of symbols right, at equal parameters"),
        Expect("time_wide", at_most=99.0, unit="percent of the plain model's time a written token"),
    ),
    seeds=(1, 2),
)
PAD, START, END, SYMBOLS = 0, 1, 2, 10
SHORTEST, LONGEST = 8, 12
DIM, DEPTH, HIDDEN, STEPS, BATCH, RATE = 48, 3, 192, 400, 64, 3e-3
PARTNER = torch.randperm(SYMBOLS, generator=torch.Generator().manual_seed(0))


def pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sources `(b, 12)`, targets `(b, 14)` with START and END, and lengths of the sources."""
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator)
    symbols = torch.randint(SYMBOLS, (count, LONGEST), generator=generator)
    place = torch.arange(LONGEST)
    beyond = place >= lengths[:, None]
    backwards = PARTNER[symbols.gather(1, (lengths[:, None] - 1 - place) % LONGEST)] + 3
    target = F.pad(backwards.masked_fill(beyond, PAD), (1, 1), value=PAD)
    target[:, 0] = START
    target[torch.arange(count), lengths + 1] = END
    return (symbols + 3).masked_fill(beyond, PAD), target, lengths


def make(kind: str) -> Any:
    """The "plain" Transformer, one layer "shared" by the encoder, or that layer "wide"."""
    pattern = "none_shared" if kind == "plain" else "shared_enc_no_dec"
    hidden = wide(DIM, DEPTH, HIDDEN) if kind == "wide" else HIDDEN
    sizes = {"vocab_size": SYMBOLS + 3, "max_length": LONGEST + 2, "dropout": 0.0}
    return create_model(shared_ffn(pattern, DIM, DEPTH, 4, hidden, **sizes).set(init="fan_in"))


def trained(kind: str, seed: int) -> Any:
    """The model that reverses and maps."""
    torch.manual_seed(seed)
    model, generator = make(kind), torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        source, target, lengths = pairs(BATCH, generator)
        logits = model(source, target[:, :-1], source_segments=Segments.from_lengths(lengths, LONGEST))
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)

    return one_cycle(model, loss, steps=STEPS, rate=RATE, warm=0.2)


def written(model: Any, source: Tensor, lengths: Tensor) -> Tensor:
    """The target that the model writes greedily, START included."""
    segments = Segments.from_lengths(lengths, LONGEST)
    return model.generate(source, segments, max_new_tokens=LONGEST + 1, end=None)


def measure(seed: int) -> dict[str, float]:
    """Symbols right in percent, parameters and times by the plain model's."""
    models = {kind: trained(kind, seed) for kind in ("plain", "shared", "wide")}
    source, target, lengths = pairs(512, torch.Generator().manual_seed(10_000 + seed))
    found, seconds = {}, dict.fromkeys(models, float("inf"))
    for kind, model in models.items():
        right = (written(model, source, lengths) == target)[target >= 3]
        found[f"{kind}_accuracy"] = 100 * float(right.float().mean())
    for i in range(20):
        for kind, model in models.items():
            begin = time.perf_counter()
            written(model, source[i : i + 1], lengths[i : i + 1])
            seconds[kind] = min(seconds[kind], time.perf_counter() - begin)
    size = {kind: model.num_parameters() for kind, model in models.items()}
    return found | {
        "share": 100 * size["shared"] / size["plain"],
        "size_wide": 100 * size["wide"] / size["plain"],
        "behind_shared": found["plain_accuracy"] - found["shared_accuracy"],
        "behind_wide": found["plain_accuracy"] - found["wide_accuracy"],
        "time_wide": 100 * seconds["wide"] / seconds["plain"],
    }
