"""FlowTransformer: synthetic flows where the last one of a window alone decides, judged through four heads.

Every flow has four numbers and two categories. It is an attack where its first two numbers agree in size and its
category is one of two; the seven flows before it are drawn in the same way and say nothing of it. The core is a shallow
encoder of two layers, the same for every head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.claims._signals import fit
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.factory import create_model
from anyformer.tasks import metrics

CLAIM = Claim(
    statement="Where the last flow of a window decides, the head matters: the last token's head is far better than "
    "global average pooling, and featurewise projection does what flattening does with half the head's parameters.",
    baseline="Global average pooling, and flattening, with the same core, trained alike.",
    expect=(
        Expect("last_minus_mean", at_least=15.0, unit="points of F1"),
        Expect("flatten_minus_featurewise", at_most=2.0, unit="points of F1"),
        Expect("head_parameters_saved", at_least=50.0, unit="percent, featurewise against flatten"),
    ),
    seeds=(0, 1),
)
WINDOW, NUMBERS, LEVELS = 8, 4, (3, 4)
TRAIN, TEST, STEPS, RATE = 8192, 2048, 500, 3e-3
HEADS = {"last": "flow_last", "mean": "flow_mean", "flatten": "flow_flatten", "featurewise": "flow_featurewise"}


def draw_windows(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers `(b, 8, 4)`, categories `(b, 8, 2)`, and whether the last flow is an attack `(b,)`."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.rand(count, WINDOW, NUMBERS, generator=generator)
    ids = torch.stack([torch.randint(1, n + 1, (count, WINDOW), generator=generator) for n in LEVELS], -1)
    last, kind = numbers[:, -1], ids[:, -1, 1]
    labels = ((last[:, 0] - last[:, 1]).abs() < 0.35) & (kind <= 2)
    return numbers, ids, labels.long()


def measure(seed: int) -> dict[str, float]:
    """F1 of every head on new windows, and the parameters that featurewise saves."""
    numbers, ids, labels = draw_windows(TRAIN, 1000 + seed)
    new_numbers, new_ids, truth = draw_windows(TEST, 2000 + seed)
    found, size = {}, {}
    for name, head in HEADS.items():
        torch.manual_seed(seed)
        model = create_model("flowtransformer_micro", numbers=NUMBERS, levels=LEVELS, window=WINDOW, head=Spec(head))

        def loss(net: nn.Module, rows: Tensor) -> Tensor:
            return F.cross_entropy(net(numbers[rows], ids[rows]), labels[rows])

        model = fit(model, loss, TRAIN, steps=STEPS, rate=RATE, seed=seed)
        with torch.no_grad():
            guess = model(new_numbers, new_ids).argmax(-1)
        found[name] = 100 * float(metrics.f1(metrics.confusion(truth, guess, 2))[1])
        size[name] = sum(p.numel() for p in model.head.parameters())
    return found | {
        "last_minus_mean": found["last"] - found["mean"],
        "flatten_minus_featurewise": found["flatten"] - found["featurewise"],
        "head_parameters_saved": 100 * (1 - size["featurewise"] / size["flatten"]),
    }
