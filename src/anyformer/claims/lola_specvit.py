"""LoLA-SpecViT: do the pixels around one help where its own spectrum is drowned in noise?

A scene of six materials in fields, 40 bands, and noise in every band, three times as loud as what tells materials
apart; ten labelled pixels of each class. The model trains on their patches of eight principal components, then its
low-rank updates alone, at a strength that goes in cycles.
"""

from __future__ import annotations

import torch
from torch import nn

from anyformer.claims._images import fit
from anyformer.data.hyperspectral import materials
from anyformer.lab.claim import Claim, Expect
from anyformer.methods.adaptation.adapt import adapt
from anyformer.methods.adaptation.lola import CyclicalStrength
from anyformer.tasks.hyperspectral import Hyperspectral

CLAIM = Claim(
    statement="From ten pixels a class, patches tell noisy materials better than a linear map of single spectra.",
    baseline="Logistic regression on the same pixels; its penalty, and bands or components, chosen by validation.",
    expect=(Expect("oa_minus_linear", at_least=5.0, unit="points of overall accuracy"),),
    seeds=(1, 2, 3),
)
NOISE, EPOCHS, STEPS, PENALTIES = 3.0, 60, 60, (0.01, 0.1, 1.0, 10.0)


def linear(task: Hyperspectral, seed: int) -> float:
    """Overall accuracy in percent of the best linear classifier of single spectra, in all bands or in components."""
    from sklearn.linear_model import LogisticRegression

    tried = []
    for cube in (materials(noise=NOISE, seed=seed), task.cube):
        held = {}
        for split, part in task.parts.items():
            rows, columns = part.places.t()
            held[split] = cube.pixels[rows, columns].numpy(), part.labels.numpy()
        for c in PENALTIES:
            fitted = LogisticRegression(C=c, max_iter=1000).fit(*held["train"])
            tried.append((fitted.score(*held["valid"]), fitted.score(*held["test"])))
    return 100 * float(max(tried)[1])


def refined(model: nn.Module, task: Hyperspectral, seed: int) -> nn.Module:
    """The model with low-rank updates that train at cyclical strength on the same pixels."""
    torch.manual_seed(seed)
    adapt(model, "lola", rank=4, alpha=8.0)
    strength = CyclicalStrength(model, period=STEPS // 3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    batch = task.sample("train", torch.arange(task.size("train")))
    model.train()
    for step in range(STEPS):
        strength.set(step)
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    strength.set(0)
    return model.eval()


def measure(seed: int) -> dict[str, float]:
    """Overall and average accuracy in percent and kappa on the test pixels."""
    task = Hyperspectral(per_class=10, noise=NOISE, bands=8, seed=seed)
    model = fit("lola_specvit_micro", task, seed, EPOCHS, batch_size=20, learning_rate=3e-3)
    full = task.evaluate(model, "test")
    found = task.evaluate(refined(model, task, seed), "test")
    baseline = linear(task, seed)
    oa = 100 * found["accuracy"]
    return {
        "oa_minus_linear": oa - baseline,
        "oa": oa,
        "oa_before_updates": 100 * full["accuracy"],
        "aa": 100 * found["average_accuracy"],
        "kappa": found["kappa"],
        "linear": baseline,
    }
