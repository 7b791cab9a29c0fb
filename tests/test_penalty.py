"""Losses that parts bring with them: kept in training, taken once, added by the loop."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anyformer.core.penalty import keep_penalty, take_penalties
from anyformer.lab.train import TrainConfig, train
from anyformer.tasks.classification import Digits


class Leaning(nn.Module):
    """A classifier of digits with a weight that only its own loss moves, towards 3."""

    def __init__(self, weigh: float = 1.0):
        super().__init__()
        self.out, self.free, self.weigh = nn.Linear(64, 10), nn.Parameter(torch.zeros(())), weigh

    def forward(self, images: Tensor) -> Tensor:
        keep_penalty(self, self.weigh * (self.free - 3).square())
        return self.out(images.flatten(1))


def test_a_penalty_is_kept_in_training_alone_and_taken_once():
    model = nn.Sequential(Leaning(), nn.Linear(10, 64), Leaning(2.0))
    images = torch.zeros(2, 1, 8, 8)
    model(images)
    taken = take_penalties(model)
    assert taken is not None and float(taken.detach()) == 27.0 and taken.requires_grad
    assert take_penalties(model) is None
    copy.deepcopy(model)
    model.eval()(images)
    assert take_penalties(model) is None
    with torch.no_grad():
        model.train()(images)
    assert take_penalties(model) is None


def test_the_loop_adds_penalties_whatever_the_micro_batches():
    found = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        config = TrainConfig(
            budget="40steps", batch_size=32, accumulate=accumulate, learning_rate=0.1, weight_decay=0.0, device="cpu"
        )
        model = train(Leaning(), Digits(), config, progress=False).model
        assert isinstance(model, Leaning)
        found.append(float(model.free.detach()))
    assert 2.0 < found[0] < 4.0 and abs(found[0] - found[1]) < 1e-4
