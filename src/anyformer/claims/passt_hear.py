"""Koutini et al. 2022, arXiv:2211.13956: Patchout halves the work, and what is learned serves as an embedding."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from anyformer.lab.claim import Claim, Expect
from anyformer.lab.profile import count_operations
from anyformer.lab.train import TrainConfig, train
from anyformer.models import create_model
from anyformer.models.audio.passt import PaSST
from anyformer.tasks.audio import Audio

CLAIM = Claim(
    statement="With half of the patches left out, training costs at most 0.6 of the work of all layers after the "
    "patches, accuracy stays within 3 points, and a linear probe on the trained embeddings is 5 points above one on "
    "the mean spectrogram.",
    baseline="The same model trained on all patches, for as many steps; a probe on spectrograms averaged over time.",
    expect=(
        Expect("cost_share", at_most=0.6, unit="of the operations of a step on all patches"),
        Expect("accuracy_lost", at_most=3.0, unit="points of test accuracy"),
        Expect("probe_gain", at_least=5.0, unit="points of test accuracy"),
    ),
    seeds=(1,),  # steps and share were chosen on seed 0
)

STEPS = 420
PATCHOUT = {"bands": 1, "times": 3, "patches": 1}
"""Left out of 10x7 patches: 35 stay."""


def measure(seed: int) -> dict[str, float]:
    """Accuracy of both, operations of their blocks, and the accuracy of both probes."""
    task = Audio(seed=seed)
    accuracies = {}
    options = task.model_options()
    for name, left_out in (("whole", {}), ("patchout", PATCHOUT)):
        torch.manual_seed(seed)
        model = cast(PaSST, create_model("passt_micro", **options, **left_out))
        config = TrainConfig(budget=f"{STEPS}steps", learning_rate=2e-3, seed=seed, evaluations=1, device="cpu")
        result = train(model, task, config, progress=False)
        accuracies[name] = 100 * task.evaluate(result.model, "test")["accuracy"]
    tokens = [2 + n for n in (model.grid[0] * model.grid[1], model.staying(*model.grid))]
    whole, half = (count_operations(model.blocks, torch.zeros(1, n, 64)) for n in tokens)
    probes = {
        "probe": probe(task, lambda images: model.penultimate(images)),
        "mel_probe": probe(task, lambda images: images.mean((1, 3))),
    }
    return {
        **accuracies,
        **probes,
        "cost_share": half / whole,
        "accuracy_lost": accuracies["whole"] - accuracies["patchout"],
        "probe_gain": probes["probe"] - probes["mel_probe"],
    }


@torch.no_grad()
def probe(task: Audio, embed) -> float:
    """Test accuracy in percent of logistic regression on embeddings of the training part."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def embedded(split: str) -> tuple[Tensor, Tensor]:
        part = task.parts[split]
        images = part.read(torch.arange(len(part.labels)))
        return torch.cat([embed(chunk) for chunk in images.split(256)]), part.labels

    found = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(*embedded("train"))
    return 100 * float(found.score(*embedded("test")))
