"""Norms: the form of fewer passes in inference is the library's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anyformer.core.build import build
from anyformer.core.spec import Spec
from anyformer.kernels.rms_norm import rms_norm


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weighed", [True, False])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_inference_on_a_cpu_is_the_librarys_norm(dtype: torch.dtype, weighed: bool, scale: float):
    torch.manual_seed(0)
    x, weight = scale * torch.randn(2, 5, 48, dtype=dtype), torch.randn(48, dtype=dtype) if weighed else None
    with torch.inference_mode():
        mine = rms_norm(x, weight, 1e-6)
    torch.testing.assert_close(mine.clone(), F.rms_norm(x, (48,), weight, 1e-6))


def test_nothing_stays_nothing_and_inputs_stay():
    zeros, x = torch.zeros(2, 8), torch.randn(2, 8)
    kept = x.clone()
    with torch.inference_mode():
        assert rms_norm(zeros, torch.ones(8), 1e-6).eq(0).all()
        rms_norm(x, torch.ones(8), 1e-6)
    assert x.equal(kept)


def test_a_norm_gives_gradients_and_takes_halves():
    norm = build(Spec("rmsnorm"), "norm", dim=8)
    x = torch.randn(3, 8, requires_grad=True)
    norm(x).square().sum().backward()
    assert x.grad is not None and norm.weight.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert norm(torch.randn(3, 8)).isfinite().all()
