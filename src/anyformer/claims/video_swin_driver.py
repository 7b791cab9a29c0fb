"""Video Swin on drivers: does it see motion, and on drivers whom it never saw?

Clips of a moving square (8 frames of 32x32), the label is where it moves to. Subjects differ in the look and the speed
of their squares; those of the test part are in no other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyformer.claims._images import accuracy, fit
from anyformer.data.clips import DIRECTIONS, Clips, moving_squares
from anyformer.lab.claim import Claim, Expect
from anyformer.tasks.clips import ClipClassification

CLAIM = Claim(
    statement="Windows of space and time tell the direction of motion of new drivers' squares, as frames alone do not.",
    baseline="The same network on one frame of each clip, drawn at random and repeated; trained alike.",
    expect=(
        Expect("clips", at_least=0.9, unit="accuracy, four classes"),
        Expect("stills", at_most=0.4, unit="accuracy, four classes"),
    ),
    seeds=(1, 2, 3),
)
CLIPS, EPOCHS = 2000, 5


def stilled(part: Clips, seed: int) -> Clips:
    """Every clip as one of its frames."""
    generator = torch.Generator().manual_seed(seed)
    n, _, frames = part.clips.shape[:3]
    chosen = torch.randint(frames, (n,), generator=generator)
    still: Tensor = part.clips[torch.arange(n), :, chosen][:, :, None]
    return Clips(still.expand_as(part.clips), part.labels, part.subjects)


def measure(seed: int) -> dict[str, float]:
    """Test accuracy on clips and on stills, and how far it is below that on the training part."""
    moving = moving_squares(CLIPS, seed=seed)
    found = {}
    for name, parts in (("clips", moving), ("stills", {s: stilled(p, seed) for s, p in moving.items()})):
        task = ClipClassification(parts, DIRECTIONS, (0.0, 1.0))
        model = fit("video_swin_micro", task, seed, EPOCHS, batch_size=32)
        found[name] = accuracy(model, task)
        found[f"{name}_train_minus_test"] = accuracy(model, task, "train") - found[name]
    return found
