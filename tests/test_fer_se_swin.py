"""Swin with squeeze and excitation, SAM's two gradients, and labels that are no expression."""

from __future__ import annotations

import copy

import pytest
import torch
from PIL import Image
from torch import nn

from anyformer import create_model, load_reference
from anyformer.core.errors import DataError, OptionError
from anyformer.methods.optimization.sam import SAM
from anyformer.models.vision.fer_se_swin import EXPRESSIONS
from anyformer.tasks.expressions import Expressions
from parts import stirred


def test_an_open_gate_leaves_swins_logits():
    model = stirred(create_model("fer_se_swin_micro"), 0.1).eval()
    plain = create_model("swin_micro", num_classes=8).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".excite." not in k})
    images = torch.randn(3, 3, 8, 8)
    assert not torch.allclose(model(images), plain(images), atol=1e-2)
    with torch.no_grad():
        model.head.excite.up.weight.zero_()
        model.head.excite.up.bias.fill_(20.0)
    torch.testing.assert_close(model(images), plain(images), rtol=0, atol=1e-4)


def test_gate_weighs_channels_by_their_means():
    model = stirred(create_model("fer_se_swin_micro"), 0.1).eval()
    excite, x = model.head.excite, torch.randn(2, 2, 2, 64)
    gate = torch.sigmoid(excite.up(excite.down(x.mean((1, 2))).relu()))
    torch.testing.assert_close(excite(x), x * gate[:, None, None])


def test_weights_of_a_swin_fill_all_but_gate_and_classes():
    swin, model = create_model("swin_micro", num_classes=5), create_model("fer_se_swin_micro")
    theirs = {"patch_embed.proj.weight": swin.embed.project.weight.detach()}
    report = load_reference(model, theirs, "timm", partial=True)
    assert report.loaded == ["embed.project.weight"]
    assert torch.equal(model.embed.project.weight, swin.embed.project.weight)


def test_published_sizes():
    with torch.device("meta"):
        for name, plain in (("fer_se_swin_tiny", "swin_tiny"), ("fer_se_swin_base", "swin_base")):
            model, swin = create_model(name), create_model(plain, num_classes=8)
            dim = model.head.linear.in_features
            assert model.num_parameters() - swin.num_parameters() == 2 * dim * (dim // 16) + dim // 16 + dim


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4))


def objective(model: nn.Module, step: int = 0) -> torch.Tensor:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
    return (model(x) - x[:, :4].sin()).square().mean()


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD])
def test_without_a_distance_it_is_the_base_optimizer(base):
    ours, plain = network(), network()
    sam, alone = SAM(base(ours.parameters(), lr=0.05), rho=0.0), base(plain.parameters(), lr=0.05)
    for step in range(5):
        sam.step(lambda step=step: objective(ours, step))
        alone.zero_grad()
        objective(plain, step).backward()
        alone.step()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), plain.parameters(), strict=True))


def test_a_step_is_the_gradient_at_the_worst_place_nearby():
    ours, plain = network().double(), network().double()

    def loss(model: nn.Module) -> torch.Tensor:
        x = torch.linspace(-1, 1, 60, dtype=torch.float64).view(10, 6)
        return (model(x) - 1).square().mean()

    first = SAM(torch.optim.SGD(ours.parameters(), lr=0.1), rho=0.3).step(lambda: loss(ours))
    torch.testing.assert_close(first, loss(plain).detach())
    before = [p.detach().clone() for p in plain.parameters()]
    grads = torch.autograd.grad(loss(plain), list(plain.parameters()))
    norm = torch.cat([g.flatten() for g in grads]).norm()
    with torch.no_grad():
        for p, g in zip(plain.parameters(), grads, strict=True):
            p.add_(0.3 * g / norm)
    worst = torch.autograd.grad(loss(plain), list(plain.parameters()))
    for p, start, g in zip(ours.parameters(), before, worst, strict=True):
        torch.testing.assert_close(p.detach(), start - 0.1 * g)


def test_each_step_asks_for_the_loss_twice():
    model, calls = network(), []

    def closure() -> torch.Tensor:
        calls.append(1)
        return objective(model)

    sam = SAM(torch.optim.AdamW(model.parameters()), rho=0.05)
    for _ in range(3):
        sam.step(closure)
    assert len(calls) == 6


def test_schedules_and_saved_states_reach_the_base_optimizer():
    model = network()
    sam = SAM(torch.optim.AdamW(model.parameters(), lr=0.05), rho=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(sam, lambda step: 0.5**step)
    sam.step(lambda: objective(model))
    schedule.step()
    assert sam.base.param_groups[0]["lr"] == 0.025
    again = network()
    again.load_state_dict(model.state_dict())
    other = SAM(torch.optim.AdamW(again.parameters(), lr=1.0), rho=0.05)
    other.load_state_dict(copy.deepcopy(sam.state_dict()))
    sam.step(lambda: objective(model, 1))
    other.step(lambda: objective(again, 1))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_a_step_without_a_closure_and_negative_distances_are_refused():
    base = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(OptionError, match=r"SAM computes the loss at two places: give step\(\) a function"):
        SAM(base).step()
    with pytest.raises(OptionError, match=r"rho is a distance of 0 or more; given -0\.1"):
        SAM(base, rho=-0.1)


def faces(folder, labels):
    for number, label in enumerate(labels):
        (folder / label).mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (number, 80, 80)).save(folder / label / f"{number}.png")


def test_labels_outside_the_expressions_are_named(tmp_path):
    faces(tmp_path, [e for e in EXPRESSIONS for _ in range(8)])
    task = Expressions(tmp_path, image_size=8)
    assert task.classes == EXPRESSIONS and task.metric == "f1"
    assert create_model("fer_se_swin_micro", **task.model_options()).head.linear.out_features == 8
    faces(tmp_path, ["boredom"])
    with pytest.raises(DataError, match="boredom is none of the 8 classes"):
        Expressions(tmp_path, image_size=8)
    with pytest.raises(OptionError, match="each expression is named once"):
        Expressions(tmp_path, classes=("anger", "anger"))
