"""CPTR: a captioner without convolution names two coloured shapes, and looks at a shape while it names its colour.

Liu et al. 2021, arXiv:2101.10804, in miniature: generated scenes of 32x32 pixels. The words
come from a ViT's patches alone; the attention of the decoder's last block, where a colour word is chosen, is measured
on the patches of the shape that has this colour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anyformer.data.captions import scenes
from anyformer.lab.claim import Claim, Expect
from anyformer.lab.train import TrainConfig, train
from anyformer.models import create_model
from anyformer.tasks.captioning import Scenes

CLAIM = Claim(
    statement="A ViT and a transformer decoder caption images without convolution, and words look at their patches.",
    baseline="The most frequent training caption for every image; attention spread evenly over all patches.",
    expect=(
        Expect("exact", at_least=70.0, unit="exact captions of new scenes, percent"),
        Expect("attention", at_least=2.0, unit="a colour word's attention on its shape, over the uniform share"),
        Expect("gain", at_least=20.0, unit="points of exact captions over the baseline"),
    ),
    seeds=(1, 2),
)
SIZE, IMAGES, STEPS = 32, 6000, 700
RATE = 3e-3
"""Learning rate, tried out on validation scenes of seed 0, which measures nothing here."""


def measure(seed: int) -> dict[str, float]:
    """Exact captions in percent; a colour word's attention on its shape, relative to the shape's area."""
    task = Scenes(images=IMAGES, image_size=SIZE, seed=seed)
    torch.manual_seed(seed)
    model = create_model("cptr_micro", **task.model_options())
    config = TrainConfig(budget=f"{STEPS}steps", learning_rate=RATE, seed=seed, evaluations=1, device="cpu")
    model = train(model, task, config, progress=False).model
    exact = 100 * task.evaluate(model, "test")["exact_match"]
    baseline = 100 * task.baseline("test").value
    return {"exact": exact, "baseline": baseline, "gain": exact - baseline, "attention": focus(model, task, seed)}


def focus(model: torch.nn.Module, task: Scenes, seed: int) -> float:
    """Attention on the shape's patches over their share of all patches, at the steps that choose the colour words."""
    _, captions, masks = scenes(task.size("test"), SIZE, 3 * seed + 2)  # the test part, with the places of its shapes
    batch = task.sample("test", torch.arange(len(captions)))
    with torch.no_grad():
        _, found = model(batch["images"], batch["target"], taps="decoder.*.cross.attention")
    looks = list(found.values())[-1].mean(1)  # (scenes, words, patches)
    side = int(looks.shape[-1] ** 0.5)
    patches = F.adaptive_max_pool2d(masks.float(), side).flatten(2)  # (scenes, 2, patches): where a shape is seen
    # "a COLOUR shape ... a COLOUR shape": the step before a word chooses it, and targets begin with a start.
    at = torch.tensor([[1, len(caption.split()) - 2] for caption in captions])
    chosen = looks.gather(1, at[:, :, None].expand(-1, -1, looks.shape[-1]))
    return float(ratio(chosen, patches))


def ratio(attention: Tensor, patches: Tensor) -> Tensor:
    """The mean over words of attention on the patches, relative to the patches' share."""
    return ((attention * patches).sum(-1) / patches.mean(-1)).mean()
