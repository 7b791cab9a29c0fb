"""The fused linear layer and activation against the plain one, and where it steps aside."""

from __future__ import annotations

import pytest
import torch

from anyformer import Spec
from anyformer.core.build import build
from anyformer.kernels.linear import ACTIVATIONS, linear_act, linear_act_plain


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 7), (1, 64, 7), (2, 5, 9, 7), (1, 4097, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_fused_equals_plain(act: str, shape: tuple[int, ...], bias: bool):
    x = torch.randn(shape) * 4
    weight, b = torch.randn(13, 7), torch.randn(13) if bias else None
    with torch.no_grad():
        torch.testing.assert_close(
            linear_act(x, weight, b, act), linear_act_plain(x, weight, b, act), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_are_the_plain_ones(act: str):
    x = torch.randn(100, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: linear_act(*a, act), (x[:4], weight, bias))


def test_extreme_inputs_stay_finite():
    x = torch.tensor([[1e4, -1e4, 0.0, 1e-30]]).repeat(100, 1)
    with torch.no_grad():
        for act in ACTIVATIONS:
            assert linear_act(x, torch.eye(4), None, act).isfinite().all()


def test_hooks_between_are_still_called():
    mlp = build(Spec("mlp", act="gelu"), "ffn", dim=8)
    seen = []
    handle = mlp.act.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        with_hook = mlp(torch.ones(70, 8))
        handle.remove()
        assert seen == [1]
        torch.testing.assert_close(mlp(torch.ones(70, 8)), with_hook, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("residual", ["add", "layer_scale", "res_scale"])
def test_residuals_write_only_over_a_fresh_branch(residual: str):
    join = build(Spec(residual), "residual", dim=4).eval()
    x, y = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = join(x, y).detach()
    kept = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(join(x, y.clone()), expected)
        assert torch.equal(x, kept), "the stream is never written over"
        same = join(x, x)
        assert torch.equal(x, kept) and not torch.equal(same, x), "a branch that returns its input is no fresh one"
