"""FcaFormer: are cross tokens of earlier blocks no loss, and do their learned scales say that they are used?

The digits at 16x16 pixels; a stage of convolutions and one of attention on 4x4 tokens.
"""

from __future__ import annotations

import torch

from anyformer.claims._images import digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.attention.forward_cross import ForwardCrossAttention
from anyformer.models.vision.fcaformer import fcaformer

CLAIM = Claim(
    statement="Forward cross attention gives a test loss no worse than without; its scale factors move away from 1.",
    baseline="The same model without cross tokens: equal depth and width, the same epochs and learning rate.",
    expect=(
        Expect("loss_with_minus_without", at_most=0.0, unit="nats"),
        Expect("scales_moved", at_least=0.01, unit="mean distance from 1"),
    ),
    seeds=(1, 2, 3),
)
MOST = {"with": 12, "without": 0}
"""Earlier blocks whose cross tokens a block sees."""


def model(most: int) -> Spec:
    """The small FcaFormer whose blocks see cross tokens of so many earlier ones."""
    small = fcaformer((24, 48), (1, 4), (4,), scale=1.0, ratio=2.0, summary=2, image_size=16)
    return small.replace("stages.1.most", most)


def scales_moved(module: torch.nn.Module) -> float:
    """Mean distance of the learned scale factors from 1."""
    mixers = [m for m in module.modules() if isinstance(m, ForwardCrossAttention)]
    scales = [m.cross_scale.flatten() for m in mixers if m.cross_scale is not None]
    return float((torch.cat(scales).detach() - 1).abs().mean())


def measure(seed: int) -> dict[str, float]:
    """Test loss of both, and what became of the scales."""
    task = images_task(digits_at(16), classes=10)
    arms = {name: fit(model(most), task, seed, epochs=12, learning_rate=3e-3) for name, most in MOST.items()}
    loss = {name: float(task.evaluate(arm, "test")["loss"]) for name, arm in arms.items()}
    return {
        "loss_with_minus_without": loss["with"] - loss["without"],
        "scales_moved": scales_moved(arms["with"]),
        **loss,
    }
