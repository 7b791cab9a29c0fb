"""NeuralMark: bits, filter, overlap of keys, threshold, training and mistakes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import AnyformerError, OptionError, SizeError, UnknownName
from anyformer.lab.train import TrainConfig, train
from anyformer.methods.security.neuralmark import Marking, NeuralMark, forge, hashed_bits, make_key, threshold
from anyformer.tasks import create_task


def mark(seed: int = 0, **options) -> NeuralMark:
    return NeuralMark(make_key(64, 256, seed=seed), "0.weight", **options)


def test_a_key_gives_its_bits_and_one_changed_bit_of_it_changes_half_of_them():
    key = make_key(64, 256, seed=0)
    assert torch.equal(hashed_bits(key), hashed_bits(key.clone()))
    changed = []
    for place in range(20):
        other = key.clone()
        other.view(torch.int32)[0, place] ^= 1  # the lowest bit of one number
        changed.append(float((hashed_bits(other) != hashed_bits(key)).float().mean()))
    assert 0.45 < sum(changed) / len(changed) < 0.55 and min(changed) > 0.3


def test_each_round_keeps_the_share_of_ones():
    count = 256 * 4096
    share = float(mark().bits.mean())
    assert 0.4 <= share <= 0.6
    sizes = [len(mark(rounds=r).places(count)) for r in range(5)]
    for before, after in pairwise(sizes):
        assert abs(after / before - share) < 0.01


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_four_rounds_two_keys_hardly_overlap(seed: int):
    count = 256 * 2048
    mine, other = (set(mark(s).places(count).tolist()) for s in (0, seed))
    assert len(mine & other) < 0.15 * min(len(mine), len(other))


def test_threshold_is_the_binomial_tail_and_falls_with_the_chance_allowed():
    for hits, above in ((227, False), (226, True)):
        assert (sum(math.comb(256, i) for i in range(hits, 257)) > 2**128) == above
    assert threshold(256) == 227 / 256
    assert threshold(64, 1e-6) < threshold(64, 1e-12) <= 1
    assert threshold(8, 2.0**-8) == 1.0
    with pytest.raises(OptionError, match="chance lies between"):
        threshold(8, 0.0)


def test_only_filtered_weights_get_a_gradient_and_training_writes_the_mark():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512))
    own = NeuralMark(make_key(64, 64, seed=0), "0.weight", rounds=2)
    own.loss(model).backward()
    reached = model[0].weight.grad.flatten().nonzero()[:, 0]
    assert set(reached.tolist()) <= set(own.places(256 * 512).tolist())
    assert not own.verify(model).owned
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        own.loss(model).backward()
        optimizer.step()
    verdict = own.verify(model)
    assert verdict.owned and verdict.accuracy == 1.0
    assert NeuralMark(make_key(64, 64, seed=1), "0.weight", rounds=2).accuracy(model) < 0.75


@pytest.mark.parametrize("name", ["vit_micro", "convnext_micro"])
def test_marks_any_models_named_layer_while_it_trains(name: str):
    task = create_task("digits")
    model = create_model(name, **task.model_options())
    layer = max(model.named_parameters(), key=lambda named: named[1].numel())[0]
    own = NeuralMark(make_key(32, 16, seed=0), layer, rounds=2)
    before = float(own.loss(model).detach())
    config = TrainConfig(budget="80steps", evaluations=1, learning_rate=1e-2, device="cpu")
    marking: Any = Marking(task, own, strength=10.0)
    result = train(model, marking, config, progress=False)
    assert float(own.loss(model).detach()) < 0.8 * before
    assert result.task["watermarks"] == [layer] and own.accuracy(model) > 0.9


def test_a_forged_key_passes_only_without_the_hash():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512))
    key, wanted = forge(model, "0.weight", rows=64, bits=64, seed=0)
    weights = model[0].weight.detach().flatten().view(-1, 64).mean(0)
    assert float(((weights @ key > 0) == wanted.bool()).float().mean()) == 1.0
    assert NeuralMark(key, "0.weight", rounds=2).accuracy(model) < 0.75


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="multiple of 8 bits; given 100: take 96"):
        make_key(64, 100, seed=0)
    with pytest.raises(OptionError, match="multiple of 8 bits"):
        NeuralMark(torch.randn(4, 12), "0.weight")
    model = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(SizeError, match=r"0\.weight has 64 weights, of which 0 are left after 4 rounds.*needs 64"):
        mark().loss(model)
    with pytest.raises(UnknownName, match=r"no parameter '0\.wieght'; did you mean '0\.weight'"):
        NeuralMark(make_key(4, 8, seed=0), "0.wieght").loss(model)
    with pytest.raises(OptionError, match="a key is a matrix"):
        NeuralMark(torch.randn(8), "0.weight")
    with pytest.raises(AnyformerError, match="rounds of the filter are 0 or more"):
        mark(rounds=-1)
    with pytest.raises(OptionError, match="strength"):
        Marking(None, strength=0.0)
