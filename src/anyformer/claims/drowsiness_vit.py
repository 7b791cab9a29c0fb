"""Detect, crop, classify: eyes are seen in the crop of a face, and not in the whole frame at the same size.

The driver drowsiness framework of 2022 (see its card), on generated frames: a face at a random place and scale, with
open or closed eyes, among clutter that has eyes of both kinds.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from anyformer.claims._images import accuracy, fit, images_task
from anyformer.core.spec import Spec
from anyformer.data.drowsiness import frames
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.models import create_model, model_spec
from anyformer.tasks.drowsiness import NOBODY, Drowsiness

CLAIM = Claim(
    statement="The pipeline names at least 90 % of the drivers' states; its ViT on the whole frame at least 10 points "
    "fewer.",
    baseline="The same ViT on the whole frame, reduced to the size of the crops: the same frames, epochs and rate.",
    expect=(
        Expect("pipeline", at_least=90.0, unit="percent of frames with a driver"),
        Expect("pipeline_minus_whole", at_least=10.0, unit="points"),
    ),
    seeds=(1,),
)
FRAMES, EPOCHS, RATE = 2048, 8, 2e-3
VIT: Spec = model_spec("drowsiness_vit_micro")["classifier"]


def whole_frames(seed: int) -> float:
    """Test accuracy of the ViT on reduced frames; frames without a driver are left out."""
    side = VIT["image_size"]
    parts = {}
    for number, (split, n) in enumerate((("train", FRAMES), ("valid", 512), ("test", 512))):
        images, _, states = frames(n, 64, 3 * seed + number)
        there = states != NOBODY
        small = F.interpolate(images[there], (side, side), mode="bilinear", antialias=True)
        parts[split] = ((small - 0.449) / 0.226, states[there])
    task = images_task(parts, classes=2)
    return 100 * accuracy(fit(VIT, task, seed, EPOCHS, learning_rate=RATE), task)


def measure(seed: int) -> dict[str, float]:
    """Accuracy on test frames with a driver; a driver who is not found is an error."""
    task = Drowsiness(samples=FRAMES, seed=seed)
    torch.manual_seed(seed)
    model = create_model("drowsiness_vit_micro", **task.model_options())
    config = TrainConfig(budget=f"{EPOCHS}epochs", learning_rate=RATE, seed=seed, evaluations=1, device="cpu")
    found = task.evaluate(train(model, task, config, progress=False).model, "test")
    table = torch.tensor(found["confusion"])[:NOBODY]
    pipeline = 100 * float(table.diagonal().sum() / table.sum())
    whole = whole_frames(seed)
    return {
        "pipeline": pipeline,
        "whole": whole,
        "found": 100 * found["found"],
        "with_nobody": 100 * found["accuracy"],
        "pipeline_minus_whole": pipeline - whole,
    }
