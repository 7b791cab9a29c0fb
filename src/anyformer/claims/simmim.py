"""Xie et al. 2021, arXiv:2111.09886: predicting masked pixels teaches a ViT what helps when labels are few."""

from __future__ import annotations

import torch

from anyformer.claims._fine_tuning import tuned
from anyformer.claims._images import digits_at, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.pretraining.masking import fine_tune
from anyformer.models import create_model
from anyformer.tasks.pretraining import SimMIMPretraining

CLAIM = Claim(
    statement="A tiny ViT that learned masked pixels of all digits without labels does better with 100 labels.",
    baseline="The same ViT from random weights, fine-tuned on the same 100 labels with the same rates and steps.",
    expect=(
        Expect("pixels_better_than_mean", at_least=30.0, unit="percent less masked L1 than the mean image"),
        Expect("pretrained_minus_scratch", at_least=2.0, unit="points of test accuracy with 100 labels"),
    ),
    seeds=(21, 22, 23, 24, 25),
)

LABELS, PRETRAINING, TUNING = 100, 600, 100


def measure(seed: int) -> dict[str, float]:
    """Masked L1 against the mean image, and test accuracy after 100 labels with and without pretraining."""
    pretraining = SimMIMPretraining()
    torch.manual_seed(seed)
    config = TrainConfig(budget=f"{PRETRAINING}steps", learning_rate=3e-3, seed=seed, evaluations=1, device="cpu")
    pretrained = train(create_model("simmim_micro", **pretraining.model_options()), pretraining, config, progress=False)
    trivial, restored = pretraining.baseline("test").value, pretraining.evaluate(pretrained.model, "test")["masked_l1"]
    task = images_task(digits_at(8, seed, LABELS), classes=10)
    options = task.model_options()
    found = {
        "pretrained": tuned(lambda: fine_tune(pretrained.model, num_classes=10), task, seed, steps=TUNING),
        "scratch": tuned(lambda: create_model("vit_micro", **options), task, seed, steps=TUNING),
    }
    return {
        **found,
        "masked_l1": restored,
        "mean_image_l1": trivial,
        "pixels_better_than_mean": 100 * (1 - restored / trivial),
        "pretrained_minus_scratch": found["pretrained"] - found["scratch"],
    }
