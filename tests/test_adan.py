"""Adan: its equations, its state, and that a run that was cut goes on bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from anyformer import create_model
from anyformer.core.errors import OptionError
from anyformer.lab.train import TrainConfig, train
from anyformer.lab.train.optimizer import make_optimizer
from anyformer.methods.optimization.adan import MOMENTS, Adan
from anyformer.tasks.classification import Digits


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4))


def loss(model: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 6, generator=generator, dtype=next(model.parameters()).dtype)
    return (model(x) - x[:, :4].sin()).square().mean()


def take(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()


@pytest.mark.parametrize("decay", ["proximal", "before"])
def test_a_hundred_steps_are_the_equations(decay):
    """The algorithm written out in the paper's convention, in double precision."""
    ours, plain = network().double(), network().double()
    optimizer = Adan(ours.parameters(), lr=0.01, weight_decay=0.1, decay=decay)
    take(ours, optimizer, range(100))
    b1, b2, b3, lr, pull = 0.02, 0.08, 0.01, 0.01, 0.1
    state = [{"m": 0.0, "v": 0.0, "n": 0.0, "g": None} for _ in plain.parameters()]
    for step in range(100):
        grads = torch.autograd.grad(loss(plain, step), list(plain.parameters()))
        for p, g, s in zip(plain.parameters(), grads, state, strict=True):
            d = 0 * g if s["g"] is None else g - s["g"]
            s["m"], s["v"] = (1 - b1) * s["m"] + b1 * g, (1 - b2) * s["v"] + b2 * d
            s["n"], s["g"] = (1 - b3) * s["n"] + b3 * (g + (1 - b2) * d) ** 2, g
            m, v, n = (s[k] / (1 - (1 - b) ** (step + 1)) for k, b in (("m", b1), ("v", b2), ("n", b3)))
            move = lr * (m + (1 - b2) * v) / (n.sqrt() + 1e-8)
            with torch.no_grad():
                p.copy_((p - move) / (1 + lr * pull) if decay == "proximal" else p * (1 - lr * pull) - move)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-9, rtol=1e-9)


def test_a_constant_gradient_leaves_plain_normalized_momentum():
    p = nn.Parameter(torch.zeros(5))
    gradient = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.1])
    optimizer = Adan([p], lr=0.1)
    for step in range(1, 6):
        p.grad = gradient.clone()
        optimizer.step()
        assert torch.equal(optimizer.state[p]["exp_avg_diff"], torch.zeros(5))
        torch.testing.assert_close(p.detach(), -0.1 * step * gradient.sign(), atol=1e-6, rtol=1e-5)


def test_state_is_four_tensors_of_the_parameters_shape():
    for make in (lambda m: Adan(m.parameters()), lambda m: make_optimizer(m, TrainConfig(optimizer="adan"))):
        model = network()
        optimizer = make(model)
        take(model, optimizer, range(2))
        for p in model.parameters():
            assert set(optimizer.state[p]) == set(MOMENTS) and len(MOMENTS) == 4
            assert all(t.shape == p.shape for t in optimizer.state[p].values())


def test_saved_and_read_in_mid_run_it_goes_on_bit_for_bit():
    model = network()
    optimizer = Adan(model.parameters(), lr=0.02)
    take(model, optimizer, range(7))
    again, saved = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    take(model, optimizer, range(7, 15))
    continued = Adan(again.parameters(), lr=0.5)
    continued.load_state_dict(saved)
    take(again, continued, range(7, 15))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_a_run_of_the_loop_that_was_cut_goes_on_bit_for_bit(tmp_path, monkeypatch):
    from anyformer.lab.train import loop

    config = TrainConfig(
        budget="12steps", optimizer="adan", learning_rate=5e-3, checkpoint_every=5, log_every=3, evaluations=1
    )

    def run(out):
        torch.manual_seed(1)
        model = create_model("vit_micro", num_classes=10, in_channels=1, depth=1)
        return train(model, Digits(), config, out=out, resume=True, progress=False)

    whole = run(tmp_path / "whole")
    take_step = loop.Stepper.take

    def cut(self, batches, step, share):
        if step == 8:
            raise KeyboardInterrupt
        take_step(self, batches, step, share)

    monkeypatch.setattr(loop.Stepper, "take", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.undo()
    resumed = run(tmp_path / "cut")
    assert resumed.steps == whole.steps == 12
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_only_matrices_decay():
    model = network()
    groups = make_optimizer(model, TrainConfig(optimizer="adan", weight_decay=0.3)).param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.3, {2}), (0.0, {1})]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.98, 1.0, 0.99)}, r"three betas of at least 0 and below 1; given \(0.98, 1.0, 0.99\)"),
        ({"betas": (0.9, 0.999)}, "three betas"),
        ({"lr": -0.1}, r"lr is 0 or more; given -0.1"),
        ({"eps": math.nan}, "eps is 0 or more"),
        ({"weight_decay": -1.0}, "weight_decay is 0 or more"),
        ({"decay": "l2"}, "'proximal' or 'before'; given 'l2'"),
        ({"max_grad_norm": 0.0}, "more than 0, or None"),
    ],
)
def test_rates_outside_their_limits_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        Adan(network().parameters(), **options)


def test_sparse_gradients_are_refused():
    table = nn.Embedding(10, 4, sparse=True)
    optimizer = Adan(table.parameters())
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(OptionError, match="takes no sparse ones: set sparse=False"):
        optimizer.step()


def test_the_configuration_knows_its_optimizers():
    with pytest.raises(OptionError, match="there is no optimizer 'adann'; did you mean 'adan'"):
        TrainConfig(optimizer="adann")
    with pytest.raises(OptionError, match="betas of adan are 3 numbers"):
        dataclasses.replace(TrainConfig(optimizer="adan"), betas=(0.9, 0.999))
    with pytest.raises(OptionError, match="betas of adamw are 2 numbers"):
        TrainConfig(betas=(0.9, 1.0))
