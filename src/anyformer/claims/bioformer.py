"""Bioformer: does a vocabulary of the field's own text shorten it, and make its hidden words easier to restore?

Invented biomedical sentences: names of substances, genes and diseases among plain words. Two WordPiece vocabularies of
2,048: learned on other sentences of the same field, and on Python's documentation. The same small Bioformer restores
hidden words with either, after the same number of steps with as many tokens in each; what it is off by is counted for a
character, as tokens of the two are not of one length. And Bioformer 8L is timed beside BERT base, in turns.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.core.spec import Spec
from anyformer.data.biomedical import sentences
from anyformer.data.seeds import sample_seeds
from anyformer.data.text import pydoc_text
from anyformer.data.tokenizers import Marked, WordPieces
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.pretraining.text_masking import choose_tokens, mask_tokens, word_starts
from anyformer.models.factory import create_model

CLAIM = Claim(
    statement="A vocabulary of the field's own text needs fewer tokens, a masked language model with it is off by "
    "less, and eight narrower layers are at least twice as fast as BERT base.",
    baseline="A vocabulary as large of general text, the same model trained alike with it; BERT base at equal tokens.",
    expect=(
        Expect("fewer_tokens", at_least=20.0, unit="percent fewer tokens a sentence"),
        Expect("loss_ratio", at_most=1.0, unit="nats a hidden character over those of the general vocabulary"),
        Expect("speedup", at_least=2.0, unit="times as fast as BERT base"),
    ),
    seeds=(1, 2),
)
VOCABULARY, LENGTH, BATCH, STEPS, RATE = 2048, 64, 32, 150, 3e-3
TRAIN, TEST, NAMES = 4000, 500, 800
"""Sentences, and names of substances; with genes and diseases nearly as many names as the vocabulary has pieces."""


class Hidden:
    """Windows of the field's text in tokens of one vocabulary, with whole words hidden."""

    def __init__(self, learned: str, train: list[str], test: list[str]):
        self.tokenizer = Marked(WordPieces(learned, VOCABULARY), ("mask",))
        self.lengths = torch.tensor([len(piece.strip()) for piece in self.tokenizer.pieces])
        self.train, self.test = (torch.tensor(self.tokenizer.encode("\n".join(part))) for part in (train, test))
        self.per_sentence = len(self.test) / len(test)

    def hide(self, ids: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Ids with hidden words, and which are chosen."""
        chosen = choose_tokens(seeds, word_starts(ids, self.tokenizer.pieces))
        ordinary = self.tokenizer.inner.vocab_size
        return mask_tokens(ids, seeds, chosen=chosen, mask=self.tokenizer.marks["mask"], ordinary=ordinary), chosen

    def trained(self, seed: int) -> Any:
        """A Bioformer after so many steps, by the same rule with either vocabulary."""
        torch.manual_seed(seed)
        options = {"vocab_size": self.tokenizer.vocab_size, "max_length": LENGTH, "head": Spec("masked_lm")}
        model = create_model("bioformer_micro", **options)
        generator, turn = torch.Generator().manual_seed(seed), iter(range(STEPS))

        def loss() -> Tensor:
            at = torch.randint(len(self.train) - LENGTH, (BATCH, 1), generator=generator) + torch.arange(LENGTH)
            ids = self.train[at]
            spoiled, chosen = self.hide(ids, sample_seeds(next(turn), torch.arange(BATCH)))
            return F.cross_entropy(model(spoiled)[chosen], ids[chosen])

        return one_cycle(model, loss, steps=STEPS, rate=RATE, decay=0.01)

    def nats(self, model: Any) -> float:
        """Cross-entropy of the hidden words of the test text, for a character of theirs."""
        ids = self.test[: len(self.test) // LENGTH * LENGTH].view(-1, LENGTH)
        spoiled, chosen = self.hide(ids, sample_seeds(0, torch.arange(len(ids))))
        with torch.no_grad():
            scores = torch.cat([model(part)[at] for part, at in zip(spoiled.split(64), chosen.split(64), strict=True)])
        return float(F.cross_entropy(scores, ids[chosen], reduction="sum") / self.lengths[ids[chosen]].sum())


def speedup(tokens: int = 128, rounds: int = 5) -> float:
    """Time of BERT base over that of Bioformer 8L for a text of so many tokens, in turns after one round to warm up."""
    models = [create_model(name, num_classes=0).eval() for name in ("bert_base_cased", "bioformer_8l")]
    ids = torch.randint(28000, (1, tokens))
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for model, kept in zip(models, times, strict=True):
                start = time.perf_counter()
                model(ids)
                if turn:
                    kept.append(time.perf_counter() - start)
    base, small = map(statistics.median, times)
    return base / small


def measure(seed: int) -> dict[str, float]:
    """Tokens a sentence and nats a hidden character with either vocabulary; the speed of eight layers."""
    written = sentences(TRAIN + TEST, seed, NAMES)
    train, test = written[:TRAIN], written[TRAIN:]
    found = {}
    for name, learned in (("own", "\n".join(train)), ("general", pydoc_text())):
        arm = Hidden(learned, train, test)
        found |= {f"{name}_tokens": arm.per_sentence, f"{name}_nats": arm.nats(arm.trained(seed))}
    return {
        **found,
        "fewer_tokens": 100 * (1 - found["own_tokens"] / found["general_tokens"]),
        "loss_ratio": found["own_nats"] / found["general_nats"],
        "speedup": speedup(),
    }
