"""Atito et al. 2022, arXiv:2205.14986: restoring corrupted groups of patches helps most when images are few."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyformer.claims._fine_tuning import tuned
from anyformer.claims._images import digits_at, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.pretraining.masking import fine_tune, pixels, random_units
from anyformer.models import create_model
from anyformer.tasks.pretraining import GMMLPretraining
from anyformer.tasks.task import Batch

CLAIM = Claim(
    statement="Pretraining a tiny ViT on the same 300 images by restoring groups of patches makes it better.",
    baseline="The same ViT from random weights with equal fine-tuning; and isolated patches corrupted instead.",
    expect=(
        Expect("pretrained_minus_scratch", at_least=3.0, unit="points of test accuracy with 300 images"),
        Expect("groups_minus_isolated", at_least=0.0, unit="points of test accuracy"),
    ),
    seeds=(30, 31, 32),
)

IMAGES, PRETRAINING, TUNING = 300, 250, 60


class Few(GMMLPretraining):
    """Groups of patches of the few training images."""

    def __init__(self, seed: int):
        super().__init__()
        self.data = images_task(digits_at(8, seed, IMAGES), classes=10)


class Isolated(Few):
    """The same share of noise, in patches that are drawn one by one."""

    def spoil(self, images: Tensor, seeds: Tensor) -> Batch:
        share = float(super().spoil(images, seeds)["spoiled"].float().mean())
        mask = pixels(random_units(seeds, (4, 4), share), images.shape[2:])
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(int(seeds[0])))
        return {"given": torch.where(mask, noise, images), "spoiled": mask}


def pretrained(task: Few, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = TrainConfig(budget=f"{PRETRAINING}steps", learning_rate=3e-3, seed=seed, evaluations=1, device="cpu")
    return train(create_model("gmml_micro", **task.model_options()), task, config, progress=False).model


def measure(seed: int) -> dict[str, float]:
    """Test accuracy after fine-tuning on 300 images, by what came before."""
    task = images_task(digits_at(8, seed, IMAGES), classes=10)
    groups, isolated = (pretrained(kind(seed), seed) for kind in (Few, Isolated))
    found = {
        "scratch": tuned(lambda: create_model("vit_micro", **task.model_options()), task, seed, steps=TUNING),
        "groups": tuned(lambda: fine_tune(groups, num_classes=10), task, seed, steps=TUNING),
        "isolated": tuned(lambda: fine_tune(isolated, num_classes=10), task, seed, steps=TUNING),
    }
    return found | {
        "pretrained_minus_scratch": found["groups"] - found["scratch"],
        "groups_minus_isolated": found["groups"] - found["isolated"],
    }
