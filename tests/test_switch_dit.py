"""Switch-DiT: routing by time alone, zero experts, the prior and its matching, the penalty, misuse."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.penalty import take_penalties
from anyformer.core.spec import Spec
from anyformer.layers.experts.conditioned import ConditionedExperts
from anyformer.models.generation.switch_dit import jensen_shannon, matched, prior_masks
from parts import stirred


def small(**options):
    torch.manual_seed(0)
    return stirred(create_model("switch_dit_micro", **options), 0.05)


def routing(model, *inputs) -> torch.Tensor:
    """Gates of the active experts of all blocks, as they are in a forward pass: `(b, units)`."""
    found = []
    hooks = [b.experts.gate.register_forward_hook(lambda _, given, gates: found.append(gates)) for b in model.blocks]
    with torch.no_grad():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return torch.cat(found, -1)


def test_routing_is_the_same_for_any_two_images_at_one_time():
    model = small().eval()
    images, _, _ = model.example_inputs(batch=6)
    t = torch.tensor([7, 7, 7, 900, 900, 900])
    gates = routing(model, images * torch.arange(1, 7).view(-1, 1, 1, 1), t, torch.arange(6))
    for rows in (gates[:3], gates[3:]):
        torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    assert not torch.allclose(gates[0], gates[3])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_exactly_k_experts_are_active(k: int):
    block = create_model("switch_dit_micro").built_from["block"].replace("experts", Spec("conditioned_experts", k=k))
    model = small(block=block).eval()
    gates = routing(model, *model.example_inputs(batch=50)).unflatten(-1, (4, 3))
    assert ((gates > 0).sum(-1) == k).all()
    assert (model.masks(model.time(torch.arange(50))).unflatten(-1, (4, 3)).sum(-1) == k).all()
    if k == 3:
        torch.testing.assert_close(gates.sum(-1), torch.ones(50, 4))
    if k == 2:  # more than half of three: any two times share an expert in every block
        masks = model.masks(model.time(torch.arange(50))).unflatten(-1, (4, 3))
        assert ((masks[:, None] * masks[None]).sum(-1) >= 1).all()


def test_experts_of_zero_leave_the_dit():
    model = small().eval()
    for block in model.blocks:
        torch.nn.init.zeros_(block.experts.weight)
        torch.nn.init.zeros_(block.experts.bias)
    plain = create_model("dit_micro").eval()
    state = {n.replace(".block.", "."): p for n, p in model.state_dict().items() if ".experts." not in n}
    plain.load_state_dict(state)
    given = model.example_inputs(batch=3)
    with torch.no_grad():
        torch.testing.assert_close(model(*given), plain(*given), rtol=0, atol=1e-6)


def test_the_mixture_is_the_sum_over_its_experts():
    torch.manual_seed(0)
    experts = stirred(ConditionedExperts(8, experts=4, k=2))
    x, condition = torch.randn(3, 4, 5, 8), torch.randn(3, 8)
    gates = experts.gate(condition)
    expected = sum(gates[:, e].view(-1, 1, 1, 1) * (x @ experts.weight[e] + experts.bias[e]) for e in range(4))
    torch.testing.assert_close(experts(x, condition), expected, rtol=1e-4, atol=1e-5)
    assert not ConditionedExperts(8)(x, condition).any(), "a new mixture gives nothing"


def test_the_prior_slides_over_all_units():
    masks = prior_masks(1000, 36, 24)
    assert (masks.sum(1) == 24).all()
    first = masks.argmax(1)
    assert first[0] == 0 and first[-1] == 12 and (first[1:] >= first[:-1]).all()
    assert first[500] == round((500 / 999) ** 4 * 12)


def test_matching_finds_the_permutation_that_differs_least():
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(20, 5, generator=generator) > 0.5).float()
    prior = (torch.rand(20, 5, generator=generator) > 0.5).float()
    found = float((masks - prior[:, matched(masks, prior)]).abs().sum())
    assert found == min(float((masks - prior[:, list(p)]).abs().sum()) for p in permutations(range(5)))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(prior[:, order][:, matched(prior, prior[:, order])], prior)


def test_jensen_shannon_is_zero_for_equals_and_ln_2_for_strangers():
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert float(jensen_shannon(p, p)) == pytest.approx(0.0, abs=1e-6)
    assert float(jensen_shannon(p, q)) == pytest.approx(math.log(2), abs=1e-4)


def test_the_prior_is_a_penalty_of_training_alone():
    model = small(prior_weight=0.5).train()
    given = model.example_inputs(batch=4)
    model(*given)
    penalty = take_penalties(model)
    torch.testing.assert_close(penalty, 0.5 * model.prior_loss(given[1]))
    penalty.backward()
    assert model.blocks[0].experts.gate.linear.weight.grad.abs().sum() > 0
    assert model.time.up.weight.grad.abs().sum() > 0
    model.eval()(*given)
    assert take_penalties(model) is None
    small(prior_weight=0.0).train()(*given)
    assert take_penalties(small(prior_weight=0.0)) is None


def test_following_the_penalty_lowers_it():
    model = small().train()
    t = torch.arange(0, 1000, 20)
    optimizer = torch.optim.Adam(
        [p for n, p in model.named_parameters() if "gate" in n or n.startswith("time")], lr=1e-2
    )
    losses = []
    for _ in range(30):
        loss = model.prior_loss(t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_misuse_is_said():
    with pytest.raises(OptionError, match=r"k is 1 to experts \(3\); given k=4"):
        ConditionedExperts(8, experts=3, k=4)
    model = small()
    images, t, labels = model.example_inputs(batch=4)
    with pytest.raises(SizeError, match=r"times are one number for each of the 4 images.*given \(3,\)"):
        model(images, t[:3], labels)
    with pytest.raises(SizeError, match="4 samples and 3 conditions"):
        ConditionedExperts(8)(torch.zeros(4, 5, 8), torch.zeros(3, 8))
    with pytest.raises(FitError, match="blocks that hold experts"):
        create_model("switch_dit_micro", block=create_model("dit_micro").built_from["block"])
    with pytest.raises(FitError, match="switched chooses its experts by the time"):
        create_model("dit_micro", block=model.built_from["block"])(images, t, labels)
