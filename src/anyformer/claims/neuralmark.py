"""arXiv:2507.11137: a hashed watermark that filters the weights cannot be overwritten, pruned away or forged."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from anyformer.claims._images import accuracy, digits_at, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.security.neuralmark import Marking, NeuralMark, forge, make_key

CLAIM = Claim(
    statement="A hashed watermark costs no accuracy, survives another key and pruning, and no key can be fitted to it.",
    baseline="The same network trained without a watermark; for forging, the same mark without the hashed filter.",
    expect=(
        Expect("bits", at_least=1.0, unit="share of the watermark's bits after training"),
        Expect("lost_accuracy", at_most=1.0, unit="points of test accuracy that the mark costs"),
        Expect("bits_after_overwriting", at_least=0.95, unit="share of bits after another key was written"),
        Expect("bits_after_pruning", at_least=0.95, unit="share of bits after 40 percent of the weights were zeroed"),
        Expect("forged_without_filter", at_least=0.95, unit="share of bits of a fitted key without hash and filter"),
        Expect("forged_with_filter", at_least=0.4, at_most=0.6, unit="share of bits of the same key by its own hash"),
    ),
    seeds=(10, 11, 12),
)

LAYER, ROWS, BITS, ROUNDS = "3.weight", 512, 256, 4
EPOCHS, PRUNED = 30, 0.4


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def pruned(model: nn.Module, share: float) -> nn.Module:
    """A copy in which this share of every matrix's weights, the smallest ones, is zero."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                limit = p.abs().flatten().kthvalue(int(share * p.numel())).values
                p.mul_(p.abs() > limit)
    return model


def measure(seed: int) -> dict[str, float]:
    """Test accuracy with and without the mark, and its bits after training and after each attack."""
    task = images_task(digits_at(8, seed), classes=10)
    config = TrainConfig(budget=f"{EPOCHS}epochs", seed=seed, evaluations=1, device="cpu")
    own, other = (NeuralMark(make_key(ROWS, BITS, seed=s), LAYER, rounds=ROUNDS) for s in (seed, seed + 1000))

    def trained(model: nn.Module, *marks: NeuralMark) -> nn.Module:
        objective: Any = Marking(task, *marks) if marks else task
        return train(model, objective, config, progress=False).model.eval()

    torch.manual_seed(seed)
    start = mlp()
    plain = trained(copy.deepcopy(start))
    marked = trained(copy.deepcopy(start), own)
    overwritten = trained(copy.deepcopy(marked), other)
    key, wanted = forge(marked, LAYER, rows=ROWS, bits=BITS, seed=seed)
    averaged = NeuralMark(key, LAYER, rounds=0).logits(marked)
    return {
        "bits": own.accuracy(marked),
        "lost_accuracy": 100 * (accuracy(plain, task) - accuracy(marked, task)),
        "bits_after_overwriting": own.accuracy(overwritten),
        "others_bits_after_overwriting": other.accuracy(overwritten),
        "bits_after_pruning": own.accuracy(pruned(marked, PRUNED)),
        "forged_without_filter": float(((averaged > 0) == wanted.bool()).float().mean()),
        "forged_with_filter": NeuralMark(key, LAYER, rounds=ROUNDS).accuracy(marked),
        "unmarked": own.accuracy(plain),
    }
