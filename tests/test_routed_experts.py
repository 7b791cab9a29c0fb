"""Experts that a router chooses: each token alone by its own, what training is told of balance, and mistakes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.penalty import take_penalties
from anyformer.core.spec import Spec
from anyformer.layers.experts.routed import imbalance


def routed(**options: Any) -> Any:
    torch.manual_seed(0)
    return build(Spec("routed_experts", **{"experts": 5, "k": 2, "hidden": 12, **options}), "ffn", dim=8)


def test_a_token_is_mixed_by_its_likeliest_experts():
    experts, x = routed(bias=True).double(), torch.randn(3, 4, 8, dtype=torch.float64)
    y = experts(x)
    for token, found in zip(x.flatten(0, 1), y.flatten(0, 1), strict=True):
        scores = experts.router(token)
        top = scores.topk(2).indices.tolist()
        shares = scores[top].softmax(0)  # of a softmax over all, made to add up to 1
        expected = sum(share * experts.experts[e](token) for share, e in zip(shares, top, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_one_of_one_expert_is_its_mlp_and_all_are_a_mixture():
    alone, x = routed(experts=1, k=1), torch.randn(2, 6, 8)
    torch.testing.assert_close(alone(x), alone.experts[0](x))
    every = routed(k=5)
    shares = every.router(x).softmax(-1)
    expected = sum(shares[..., e, None] * expert(x) for e, expert in enumerate(every.experts))
    torch.testing.assert_close(every(x), expected)


def test_compiled_it_computes_the_same():
    experts, x = routed(), torch.randn(2, 9, 8)
    torch._dynamo.reset()
    compiled = torch.compile(experts, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), experts(x))


def test_gradients_reach_the_router_and_bfloat16_stays_close():
    experts, x = routed(), torch.randn(2, 9, 8)
    (experts(x) * torch.randn(2, 9, 8)).sum().backward()
    assert experts.router.weight.grad.abs().sum() > 0
    experts = routed(k=5)  # none changes its choice
    exact = experts(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = experts(x)
    assert (exact - rough).norm() < 0.1 * exact.norm()
    assert experts(x[:0]).shape == (0, 9, 8)


def test_the_penalty_asks_for_experts_that_are_used_alike():
    even = torch.full((8, 4), 0.25)
    used = torch.eye(4, dtype=torch.bool).repeat(2, 1)
    assert float(imbalance(even, used)) == pytest.approx(1.0)
    one = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).repeat(8, 1)
    assert float(imbalance(one, one > 0.5)) == pytest.approx(4 * 0.7)
    experts = routed(balance=0.5).train()
    x = torch.randn(4, 6, 8)
    experts(x)
    penalty = take_penalties(experts)
    chances = experts.router(x.flatten(0, 1)).softmax(-1)
    used = torch.zeros_like(chances).scatter(1, chances.topk(2).indices, 1.0)
    share, chosen = used.sum(0) / used.sum(), (chances * used).sum(0) / used.sum(0)
    torch.testing.assert_close(penalty, 0.5 * 5 * (share * chosen).sum())
    experts.eval()(x)
    assert take_penalties(experts) is None


def test_more_experts_than_there_are():
    with pytest.raises(OptionError, match=r"k is 1 to experts \(5\); given k=6"):
        routed(k=6)
