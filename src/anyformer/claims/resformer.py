"""ResFormer: does training at several sizes serve sizes that were never seen?

Digits enlarged to 32 pixels, and a small ResFormer with patches of 4. Trained at 16, 24 and 32 pixels together, or at
32 alone, with as many steps; tested at 12 and 48, which neither has seen, and at 32.
"""

from __future__ import annotations

import torch

from anyformer.claims._images import digits_at, images_task
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.augmentation.multi_resolution import MultiResolution, resized
from anyformer.models import create_model
from anyformer.models.vision.resformer import resformer
from anyformer.tasks.classification import ImageClassification
from anyformer.tasks.task import measuring

CLAIM = Claim(
    statement="Trained at several sizes with a scale consistency loss, a ResFormer serves sizes it has not seen.",
    baseline="The same model trained at 32 pixels alone, from the same weights, with as many steps.",
    expect=(
        Expect("unseen_gain", at_least=10.0, unit="points of test accuracy, mean of 12 and 48 pixels"),
        Expect("loss_at_32", at_most=1.5, unit="points of test accuracy at 32 pixels"),
    ),
    seeds=(1, 2, 3),
)
SIDE, SIZES, UNSEEN, STEPS = 32, (16, 24, 32), (12, 48), 250


def accuracy_at(model: torch.nn.Module, task: ImageClassification, size: int) -> float:
    """Percent of the test images that are named rightly at this size."""
    hits = 0
    with measuring(model) as device:
        for _, batch in task.batches("test", 256, device):
            hits += int((model(resized(batch["images"], size)).argmax(-1) == batch["labels"]).sum())
    return 100 * hits / task.size("test")


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of both at sizes seen and not seen."""
    task = images_task(digits_at(SIDE), classes=10)
    spec = resformer(32, 3, 2, patch=4, ratio=2.0, image_size=SIDE).set(init="fan_in")
    found: dict[str, float] = {}
    for name, sizes in (("several", SIZES), ("one", (SIDE,))):
        torch.manual_seed(seed)
        model = create_model(spec, **task.model_options())
        config = TrainConfig(budget=f"{STEPS}steps", learning_rate=3e-3, seed=seed, evaluations=1, device="cpu")
        train(model, MultiResolution(task, sizes), config, progress=False)
        found |= {f"{name}_at_{size}": accuracy_at(model, task, size) for size in (*UNSEEN, SIDE)}
    gains = [found[f"several_at_{size}"] - found[f"one_at_{size}"] for size in UNSEEN]
    return found | {
        "unseen_gain": sum(gains) / len(gains),
        "loss_at_32": found["one_at_32"] - found["several_at_32"],
    }
