"""Writing over memory that is nobody else's: the same numbers, where nobody watches, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer.core.build import build
from anyformer.core.registry import parts
from anyformer.core.spec import Spec
from anyformer.kernels.reuse import over

IN_PLACE = {"gelu", "relu", "silu", "squared_relu", "star_relu"}


def draw() -> torch.Tensor:
    return torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(parts("act")))
def test_activations_over_their_input_are_the_activations(name: str):
    act: Any = build(Spec(name), "act", dim=6).eval()
    with torch.inference_mode():
        x = draw()
        y = over(act, x)
        torch.testing.assert_close(y, act(draw()))
        assert (y.data_ptr() == x.data_ptr()) == (name in IN_PLACE)


def norm(name: str = "batchnorm") -> Any:
    made: Any = build(Spec(name), "norm", dim=6)
    with torch.no_grad():
        for i, values in enumerate((made.weight, made.bias, made.running_mean, made.running_var)):
            values.copy_(torch.rand(6, generator=torch.Generator().manual_seed(i)) + 0.5)
    return made.eval()


def test_batch_norm_over_its_input_is_batch_norm():
    made, x = norm(), draw()
    with torch.inference_mode():
        y = over(made, x)
        torch.testing.assert_close(y, made(draw()))
        assert y.data_ptr() == x.data_ptr()


def test_what_may_be_needed_is_not_written_over():
    act: Any = build(Spec("gelu"), "act")
    made = norm()
    for module in (act, made):
        x = draw().requires_grad_()
        assert over(module, x.clone()).requires_grad  # a gradient is asked for
    with torch.inference_mode():
        for module in (act, made):
            seen: list[torch.Tensor] = []
            hook = module.register_forward_hook(lambda _, given, out, seen=seen: seen.append(given[0]))
            over(module, draw())
            hook.remove()
            torch.testing.assert_close(seen[0], draw())
        made.train()
        x = draw()
        over(made, x)
        torch.testing.assert_close(x, draw())  # statistics of the batch
        uncentered: Any = build(Spec("uncentered_batchnorm"), "norm", dim=6).eval()
        x = draw()
        torch.testing.assert_close(over(uncentered, x), uncentered(draw()))


@pytest.mark.parametrize("name", ["inverted_bottleneck", "mbconv", "mobile"])
def test_mixers_give_in_inference_what_they_give_with_a_gradient(name: str):
    mixer: Any = build(Spec(name, ratio=2.0), "mixer", dim=6, grid=(7,)).eval()
    x = draw()
    with torch.inference_mode():
        ours = mixer(x)
    torch.testing.assert_close(ours, mixer(x.requires_grad_()).detach())
    torch.testing.assert_close(x.detach(), draw())
