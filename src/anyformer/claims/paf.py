"""PAF: six layers of a masked language model with attention and feed-forward layer in series, side by side, and alone.

Sentences of a small language: one of two grammars each, which name the next word of every word; a fifth of the words
do not follow it. 15 percent of the words are chosen, and hidden, replaced or left by BERT's rule, as in the paper: what
they are is told by their neighbours and the grammar. The cosine of tokens is that of all pairs in a sentence, after the
last layer. With every chosen word hidden, as it was first, no visible word's token is ever trained, and most of those
that the cosine compares are visible; on seed 0 that left 0.098 of the 0.1 asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.theory import mean_cosine
from anyformer.methods.pretraining.text_masking import choose_tokens, mask_tokens
from anyformer.models.factory import create_model
from anyformer.models.language.bert import bert

CLAIM = Claim(
    statement="Attention and feed-forward layer side by side train as well as in series, and feed-forward layers keep "
    "tokens from becoming alike.",
    baseline="The same encoder in series, and one without feed-forward layers, trained alike.",
    expect=(
        Expect("behind", at_most=3.0, unit="percent of the loss in series"),
        Expect("alike", at_least=0.1, unit="cosine of tokens without feed-forward layers, beyond either with them"),
    ),
    seeds=(1, 2, 3),
)
DIM, DEPTH, STEPS, BATCH, RATE = 32, 6, 400, 32, 3e-3
WORDS, GRAMMARS, LENGTH = 16, 2, 24
HIDDEN = WORDS
FOLLOWING = torch.stack([torch.randperm(WORDS, generator=torch.Generator().manual_seed(g)) for g in range(GRAMMARS)])
"""`(grammars, words)`: the word that follows."""


def sentences(count: int, generator: torch.Generator) -> Tensor:
    """Words `(b, 24)`."""
    grammar = torch.randint(GRAMMARS, (count,), generator=generator)
    strays = torch.randint(WORDS, (count, LENGTH), generator=generator)
    stray = torch.rand(count, LENGTH, generator=generator) < 0.2
    words = [strays[:, 0]]
    for t in range(1, LENGTH):
        words.append(torch.where(stray[:, t], strays[:, t], FOLLOWING[grammar, words[-1]]))
    return torch.stack(words, 1)


def encoder(kind: str) -> Any:
    """BERT's blocks, here with rotary positions: "series", "parallel", or "no_ffn"."""
    spec = bert(DIM, DEPTH, 4, vocab_size=WORDS + 1, max_length=LENGTH, dropout=0.0, eps=1e-5)
    options = spec["block"].options | ({"ffn": None} if kind == "no_ffn" else {})
    options["mixer"] = Spec("attention", heads=4, rotation=Spec("rotary"))
    block = Spec("parallel_postnorm" if kind == "parallel" else "postnorm", **options)
    return create_model(spec.set(block=block, position=None, types=0, head=Spec("masked_lm"), init="fan_in"))


def loss(model: nn.Module, ids: Tensor, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy of the chosen words: most of them hidden, some replaced, some as they are."""
    seeds = torch.randint(2**31, (len(ids),), generator=generator)
    chosen = choose_tokens(seeds, torch.ones_like(ids, dtype=torch.bool))
    given = mask_tokens(ids, seeds, chosen=chosen, mask=HIDDEN, ordinary=WORDS)
    return F.cross_entropy(model(given)[chosen], ids[chosen])


def trained(kind: str, seed: int) -> Any:
    """The encoder that finds hidden words."""
    torch.manual_seed(seed)
    model, generator = encoder(kind), torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        return loss(model, sentences(BATCH, generator), generator)

    return one_cycle(model, drawn, steps=STEPS, rate=RATE, warm=0.2, decay=0.01)


def measure(seed: int) -> dict[str, float]:
    """Validation losses, and cosines of the last layer's tokens."""
    ids = sentences(512, torch.Generator().manual_seed(10_000 + seed))
    found = {}
    for kind in ("series", "parallel", "no_ffn"):
        model = trained(kind, seed)
        with torch.no_grad():
            found[f"{kind}_loss"] = float(loss(model, ids, torch.Generator().manual_seed(0)))
            found[f"{kind}_cosine"] = float(mean_cosine(model.tokens(ids)).mean())
    highest = max(found["series_cosine"], found["parallel_cosine"])
    return found | {
        "behind": 100 * (found["parallel_loss"] / found["series_loss"] - 1),
        "alike": found["no_ffn_cosine"] - highest,
    }
