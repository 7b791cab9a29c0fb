"""TKL: finding a passage of twenty terms in documents of a thousand, and what is lost by reading their beginning alone.

A query names three things. Both documents of a pair name them too, each somewhere; the relevant one also names all of
them in one passage of twenty terms at a random place, where the other has a passage on other things. So only who sees
the passages can tell: of the first 200 terms alone, at best 66 of 100 pairs. Things have two names, one for queries and
one for documents, which the vectors start with as neighbours, as published word vectors do. The same ranker, trained
alike, is given the whole documents or their first 200 terms. Accuracy over pairs that were not seen in training.
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
    statement="Reading all of a long document in chunks and scoring its best regions ranks it better than its "
    "first terms do, which is all that a transformer over the whole of it can afford.",
    baseline="The same model, trained on the same pairs by the same recipe, on the first 200 terms of each document.",
    expect=(
        Expect("whole", at_least=0.9, unit="accuracy over pairs of documents"),
        Expect("first_200", at_most=0.7, unit="accuracy over pairs of documents"),
    ),
    seeds=(1, 2, 3),
)
TERMS, PASSAGE, FIRST = 1000, 20, 200
THINGS, OTHERS, ASKED = 100, 300, 3
VOCABULARY = 2 * THINGS + OTHERS
"""Names that queries use, names that documents use, and terms that mean nothing."""
DIM, STEPS, BATCH, RATE, PAIRS = 32, 60, 16, 3e-3, 300


def pairs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Queries `(b, 3)` and documents `(b, 2, 1000)`, the relevant one first."""
    things = torch.rand(count, THINGS, generator=generator).argsort(1)[:, : 2 * ASKED].view(count, 2, ASKED)
    query = things[:, 0]
    documents = torch.randint(2 * THINGS, VOCABULARY, (count, 2, TERMS), generator=generator)
    anywhere = torch.rand(count, 2, TERMS, generator=generator).argsort(2)[..., :ASKED]
    documents.scatter_(2, anywhere, query[:, None].expand(-1, 2, -1) + THINGS)
    start = torch.randint(0, TERMS - PASSAGE + 1, (count, 2, 1), generator=generator)
    inside = start + torch.rand(count, 2, PASSAGE, generator=generator).argsort(2)[..., :ASKED]
    return query, documents.scatter_(2, inside, things + THINGS)


def ranker(seed: int) -> Any:
    """TKL with 40-term chunks and 30-term regions, its vectors such that both names of a thing are alike."""
    torch.manual_seed(seed)
    mixer = {"block.mixer.heads": 4, "block.ffn.hidden": 2 * DIM}
    model: Any = create_model("tkl", dim=DIM, depth=1, vocab_size=VOCABULARY, init="fan_in", **mixer)
    weight = model.embed.weight
    with torch.no_grad():
        weight.normal_()
        weight[THINGS : 2 * THINGS] = weight[:THINGS] + 0.3 * torch.randn(THINGS, DIM)
    return model


def accuracy(seed: int, terms: int) -> float:
    """Train on pairs of documents cut to so many terms; then how often the relevant one of a new pair is preferred."""
    model, generator = ranker(seed), torch.Generator().manual_seed(seed)

    def margins(count: int, source: torch.Generator) -> Tensor:
        query, documents = pairs(count, source)
        scores = model(query.repeat_interleave(2, 0), documents[..., :terms].flatten(0, 1)).view(-1, 2)
        return scores[:, 0] - scores[:, 1]

    one_cycle(model, lambda: -F.logsigmoid(margins(BATCH, generator)).mean(), steps=STEPS, rate=RATE)
    held = torch.Generator().manual_seed(10_000 + seed)
    with torch.no_grad():
        found = torch.cat([margins(20, held) for _ in range(PAIRS // 20)])
    return float((found > 0).float().mean())


def measure(seed: int) -> dict[str, float]:
    """Accuracy of both over 300 new pairs."""
    return {"whole": accuracy(seed, TERMS), "first_200": accuracy(seed, FIRST)}
