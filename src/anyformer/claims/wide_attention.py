"""Wide against deep: 16 heads in one layer, or four in each of four, for texts whose words tell their class.

Texts of 256 bytes from a vocabulary of made-up words; three words in ten are keywords of the text's class. Both models
are trained alike from scratch; then each reads one text at a time.
"""

from __future__ import annotations

import random
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._loop import one_cycle
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model, model_spec
from anyformer.models.language.wide_attention import at_depth

CLAIM = Claim(
    statement="A single layer with all heads classifies texts as well as a deep stack, is quicker and smaller.",
    baseline="Four layers of four heads, of the same width, trained alike.",
    expect=(
        Expect("wide_minus_deep", at_least=-2.0, unit="points of test accuracy"),
        Expect("speedup", at_least=1.3, unit="latency of one text, deep over wide"),
        Expect("parameters", at_most=0.7, unit="of the wide model over those of the deep one"),
    ),
    seeds=(1, 2, 3),
)
LENGTH, CLASSES, NOISE, KEYWORDS, SHARE = 256, 4, 40, 4, 0.3
STEPS, BATCH, RATE, TESTED = 120, 16, 2e-3, 512
OPTIONS = {"num_classes": CLASSES, "max_length": LENGTH}


def vocabulary(seed: int) -> tuple[list[bytes], list[list[bytes]]]:
    """Different words of 3 to 6 letters: those without meaning, and the keywords of each class."""
    dice, words = random.Random(seed), set()
    while len(words) < NOISE + CLASSES * KEYWORDS:
        words.add(bytes(dice.choices(range(97, 123), k=dice.randint(3, 6))))
    dealt = sorted(words)
    dice.shuffle(dealt)
    return dealt[:NOISE], [dealt[NOISE + k * KEYWORDS :][:KEYWORDS] for k in range(CLASSES)]


def texts(count: int, words: tuple[list[bytes], list[list[bytes]]], seed: int) -> tuple[Tensor, Tensor]:
    """Bytes `(count, 256)` and the classes."""
    dice, rows, labels = random.Random(seed), [], []
    noise, keywords = words
    for _ in range(count):
        label, text = dice.randrange(CLASSES), b""
        while len(text) < LENGTH:
            text += dice.choice(keywords[label] if dice.random() < SHARE else noise) + b" "
        rows.append(list(text[:LENGTH]))
        labels.append(label)
    return torch.tensor(rows), torch.tensor(labels)


def accuracy(model: nn.Module, seed: int) -> float:
    """Train, then percent right of new texts."""
    words = vocabulary(seed)
    seeds = iter(range(seed * STEPS, (seed + 1) * STEPS))

    def loss() -> Tensor:
        ids, labels = texts(BATCH, words, next(seeds))
        return F.cross_entropy(model(ids), labels)

    one_cycle(model, loss, steps=STEPS, rate=RATE, decay=0.01)
    ids, labels = texts(TESTED, words, 10**6 + seed)
    with torch.no_grad():
        guesses = torch.cat([model(part).argmax(-1) for part in ids.split(128)])
    return 100 * float((guesses == labels).float().mean())


def latencies(models: dict[str, nn.Module], runs: int = 60) -> dict[str, float]:
    """Seconds for one text: the shortest of some runs, the models in turn."""
    ids, found = torch.randint(97, 123, (1, LENGTH)), {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(runs):
            for name, model in models.items():
                start = time.perf_counter()
                model(ids)
                found[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in found.items()}


def measure(seed: int) -> dict[str, float]:
    """Accuracy in percent, latency, and the share of parameters."""
    deep = model_spec("wide_attention_deep_micro", **OPTIONS)
    models: dict[str, nn.Module] = {}
    found = {}
    for name, layers in (("deep", 4), ("wide", 1)):
        torch.manual_seed(seed)
        models[name] = create_model(at_depth(deep, layers))
        found[name] = accuracy(models[name], seed)
    taken = latencies(models)
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    return {
        **found,
        "wide_minus_deep": found["wide"] - found["deep"],
        "speedup": taken["deep"] / taken["wide"],
        "parameters": sizes["wide"] / sizes["deep"],
    }
