"""Smith et al. 2022, arXiv:2211.13218: assembled prompts learn task after task without replay and forget less.

A task of one class has no loss among its own classes, so the five tasks are the five pairs of neighbours in the circle
5, 6, 7, 8, 9; no image is seen in two tasks.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anyformer.claims._adaptation import NEW, pretrained, task_of
from anyformer.claims._images import accuracy
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.adaptation.adapt import adapt
from anyformer.methods.adaptation.coda_prompt import Components, current_loss, penalty, start_task
from anyformer.tasks.classification import ImageClassification

CLAIM = Claim(
    statement="A frozen ViT that learns the digits 5 to 9 in five tasks through CODA prompts ends well above the same "
    "ViT fine-tuned as a whole, and not below one prompt that all tasks share.",
    baseline="All weights trained, task after task; and one prompt of the same length, trained by all tasks. Each with "
    "the same head, steps and loss, at the best of the same three rates.",
    expect=(
        Expect("coda_minus_finetuning", at_least=15.0, unit="points of final test accuracy"),
        Expect("coda_minus_shared", at_least=0.0, unit="points of final test accuracy"),
    ),
    seeds=(1, 2, 3),  # seed 0 was run while steps and batch were chosen for time
)
PAIRS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 0))
STEPS, BATCH, MU = 30, 32, 0.1
RATES = (1e-3, 3e-3, 1e-2)
LENGTH, EACH, LAYERS = 8, 4, 4


class Shared(Components):
    """One prompt, the same for every image."""

    def forward(self, query: Tensor, task: int) -> Tensor:
        return self.known("values", task).view(1, self.length, -1).expand(len(query), -1, -1)


def coda(model: nn.Module) -> nn.Module:
    count = len(PAIRS)
    return adapt(model, "coda_prompt", tasks=count, components=EACH * count, length=LENGTH, layers=LAYERS)


def shared(model: nn.Module) -> nn.Module:
    adapt(model, "coda_prompt", name="shared", tasks=1, components=1, length=LENGTH, layers=LAYERS)
    for module in model.modules():
        if isinstance(module, Components):
            module.__class__ = Shared
    return model


ARMS = {"coda": coda, "shared": shared, "finetuning": lambda model: model}


def learn(model: nn.Module, arm: str, task: ImageClassification, rate: float, seed: int) -> nn.Module:
    """Train on one pair after the other."""
    everything = task.sample("train", torch.arange(task.size("train")))
    images, labels = everything["images"], everything["labels"]
    generator = torch.Generator().manual_seed(seed)
    half = torch.rand(len(labels), generator=generator) < 0.5
    for number, pair in enumerate(PAIRS):
        if arm == "coda":
            start_task(model, number)
        # a digit's one half belongs to the pair that it opens, the other to the pair that it closes
        rows = (((labels == pair[0]) & half) | ((labels == pair[1]) & ~half)).nonzero()[:, 0]
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
        model.train()
        for _ in range(STEPS):
            chosen = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
            loss = current_loss(model(images[chosen]), labels[chosen], list(pair))
            loss = loss + MU * penalty(model) if arm == "coda" else loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
    return model.eval()


def measure(seed: int) -> dict[str, float]:
    """Test accuracy over all five digits after the last task, at the rate that the validation part prefers."""
    start, task = pretrained(seed), task_of(NEW, seed)
    found: dict[str, float] = {}
    for arm, prepare in ARMS.items():
        best = -1.0
        for rate in RATES:
            torch.manual_seed(seed)
            model = learn(prepare(copy.deepcopy(start)), arm, task, rate, seed)
            if (valid := accuracy(model, task, "valid")) > best:
                best, found[arm] = valid, 100 * accuracy(model, task)
    return found | {
        "coda_minus_finetuning": found["coda"] - found["finetuning"],
        "coda_minus_shared": found["coda"] - found["shared"],
    }
