"""What claims on adapting share: a small ViT pretrained on the digits 0 to 4, and tasks of other digits."""

from __future__ import annotations

from torch import nn

from anyformer.claims._images import digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.models import model_spec
from anyformer.tasks.classification import ImageClassification

OLD, NEW = range(0, 5), range(5, 10)
EPOCHS = 25
VIT = model_spec("vit_micro", head=Spec("classifier", pool=Spec("class")))


def task_of(classes: range, seed: int) -> ImageClassification:
    """The images of these digits, with labels from 0."""
    parts = {}
    for split, (images, labels) in digits_at(8, seed).items():
        rows = (labels >= classes.start) & (labels < classes.stop)
        parts[split] = (images[rows], labels[rows] - classes.start)
    return images_task(parts, len(classes))


def pretrained(seed: int) -> nn.Module:
    """The ViT after the digits 0 to 4, with a new head for five classes."""
    model = fit(VIT, task_of(OLD, seed), seed, EPOCHS)
    linear = model.get_submodule("head.linear")
    nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)  # type: ignore[attr-defined]
    nn.init.zeros_(linear.bias)  # type: ignore[attr-defined]
    return model.requires_grad_(True)


def head_only(model: nn.Module) -> nn.Module:
    """Freeze all but the head: a linear probe."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    return model
