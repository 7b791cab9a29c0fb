"""Every token mixer of images in the pyramids of other papers: it trains there as the mixer that they came with."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.registry import part_class
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks.classification import Digits
from parts import MIXERS, tiny

PYRAMIDS = ("swin_micro", "pvt_micro", "poolformer_micro")
IMAGE_MIXERS = [name for name in MIXERS if 2 in part_class(name).ranks]


def losses(pyramid: str, mixer: str, steps: int) -> list[float]:
    """Losses of training on digits with this mixer in every block."""
    task = Digits()
    torch.manual_seed(0)
    # A class token would make a sequence of PVT's last grid.
    options = {"head.pool": "mean", "stages.1.prefix": 0} if pyramid == "pvt_micro" else {}
    model = create_model(pyramid, **options, mixer=tiny(mixer), **task.model_options())
    used = {block.mixer.name for stage in model.stages for block in stage.blocks}
    assert used == {mixer}
    config = TrainConfig(
        budget=f"{steps}steps", batch_size=64, learning_rate=3e-3, evaluations=1, log_every=steps // 4, device="cpu"
    )
    result = train(model, task, config, progress=False)
    return [line["loss"] for line in result.history if "loss" in line]


@pytest.mark.parametrize("mixer", IMAGE_MIXERS)
def test_every_mixer_trains_in_another_papers_pyramid(mixer):
    pyramid = PYRAMIDS[IMAGE_MIXERS.index(mixer) % len(PYRAMIDS)]
    found = losses(pyramid, mixer, 24)
    assert found[-1] < found[0] - 0.1


@pytest.mark.nightly
@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("mixer", IMAGE_MIXERS)
def test_every_mixer_in_every_pyramid(mixer, pyramid):
    found = losses(pyramid, mixer, 100)
    assert found[-1] < 0.7 * found[0]
