"""Mamba and the bidirectional mixer beyond the contract: start values, states, documents, and what each token sees."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import nbytes
from anyformer.layers.recurrence.bidirectional import Bidirectional
from anyformer.layers.recurrence.mamba import Mamba


def mamba(dim: int = 16, **options: float) -> Mamba:
    torch.manual_seed(0)
    return Mamba(dim, **options).eval()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_starts_as_published():
    layer = mamba(256, dt_min=0.002, dt_max=0.05)
    torch.testing.assert_close(layer.A_log.exp(), torch.arange(1, 17.0).expand(512, 16))
    assert torch.equal(layer.D, torch.ones(512))
    dt = F.softplus(layer.dt_proj.bias).detach()
    assert float(dt.min()) >= 0.00199 and float(dt.max()) <= 0.0501
    middle = (0.002 * 0.05) ** 0.5  # log-uniform: half of them below the geometric mean
    assert 0.4 <= float((dt < middle).float().mean()) <= 0.6
    assert layer.rank == 16
    assert 0.95 * 0.25 <= float(layer.dt_proj.weight.detach().abs().max()) <= 0.25
    assert float(F.softplus(mamba(64, dt_min=1e-6, dt_max=1e-5, dt_floor=1e-3).dt_proj.bias.detach()).min()) >= 0.999e-3


def test_has_the_parameters_of_the_reference():
    shapes = {name: tuple(p.shape) for name, p in mamba(768).named_parameters()}
    assert shapes == {
        "A_log": (1536, 16),
        "D": (1536,),
        "in_proj.weight": (3072, 768),
        "conv1d.weight": (1536, 1, 4),
        "conv1d.bias": (1536,),
        "x_proj.weight": (80, 1536),
        "dt_proj.weight": (1536, 48),
        "dt_proj.bias": (1536,),
        "out_proj.weight": (768, 1536),
    }


def test_is_the_published_composition():
    """The layer, written once more from figure 3 and algorithm 2 with a loop over tokens."""
    layer, x = mamba(8, state=3, bias=True), draw(1, 20, 8)
    u, z = layer.in_proj(x).split(16, -1)
    u = F.silu(F.conv1d(F.pad(u.mT, (3, 0)), layer.conv1d.weight, layer.conv1d.bias, groups=16).mT)
    dt, B, C = layer.x_proj(u).split([1, 3, 3], -1)
    delta = F.softplus(layer.dt_proj(dt))
    h, outputs = torch.zeros(1, 16, 3), []
    for t in range(20):
        decay = torch.exp(delta[:, t, :, None] * -layer.A_log.exp())
        h = decay * h + (delta * u)[:, t, :, None] * B[:, t, None]
        outputs.append((h @ C[:, t, :, None])[..., 0] + layer.D * u[:, t])
    expected = layer.out_proj(torch.stack(outputs, 1) * F.silu(z))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_steps_equal_the_parallel_form_over_64_tokens():
    layer, x = mamba(32), draw(2, 64, 32)
    state, outputs = layer.init_state(2, like=x), []
    with torch.no_grad():
        expected = layer(x)
        for token in x.unbind(1):
            y, state = layer.step(token, state)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs, 1), expected, rtol=1e-5, atol=1e-5)
        _, parallel = layer.extend(x, layer.init_state(2, like=x))
    torch.testing.assert_close(state, parallel, rtol=1e-5, atol=1e-5)


def test_the_state_does_not_grow_and_keeps_its_types():
    layer, x = mamba(), draw(1, 300, 16).bfloat16()
    layer = layer.bfloat16()
    empty = layer.init_state(1, like=x)
    _, full = layer.extend(x, empty)
    assert nbytes(full) == nbytes(empty) == 3 * 32 * 2 + 32 * 16 * 4
    assert {k: v.dtype for k, v in full.items()} == {"conv": torch.bfloat16, "scan": torch.float32}


def test_a_state_of_another_batch_is_refused():
    layer = mamba()
    with pytest.raises(SizeError, match="state of 3 rows with 2 rows"):
        layer.step(draw(2, 16), layer.init_state(3, like=draw(1)))


def test_operations_grow_with_the_tokens():
    counts = []
    layer = mamba(8, state=4)
    for length in (1024, 16384):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(draw(1, length, 8))
        counts.append(counter.get_total_flops())
    assert counts[1] == 16 * counts[0]
    assert counts[0] >= 7 * 1024 * 16 * 4


@pytest.mark.parametrize("part", [Mamba, Bidirectional])
@pytest.mark.parametrize("runs", [((1, 7), (2, 2), (3, 11)), ((0, 5), (1, 9), (2, 6)), ((1, 4), (0, 6), (2, 10))])
def test_documents_are_alone_wherever_padding_lies(part: type, runs: tuple[tuple[int, int], ...]):
    torch.manual_seed(0)
    ids = [document for document, tokens in runs for _ in range(tokens)]
    layer, x = part(16).eval(), draw(1, 20, 16)
    segments = Segments(torch.tensor([ids]))
    x[~segments.valid] = torch.nan  # padding is never computed with
    packed = layer(x, segments)
    for document in set(ids) - {0}:
        own = segments.ids == document
        torch.testing.assert_close(packed[own][None], layer(x[own][None]), rtol=1e-5, atol=1e-6)


def test_images_are_read_in_raster_order():
    layer, x = mamba(), draw(2, 3, 5, 16)
    torch.testing.assert_close(layer(x).flatten(1, 2), layer(x.flatten(1, 2)))


def test_bfloat16_stays_close():
    layer, x = mamba(64), draw(1, 200, 64)
    with torch.no_grad():
        exact, rough = layer(x), copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() <= 0.03 * exact.norm()


@pytest.mark.parametrize("options", [{"state": 0}, {"conv": 0}, {"rank": 0}, {"dt_min": 0.2}])
def test_options_out_of_range(options: dict[str, float]):
    with pytest.raises(OptionError, match="mamba takes"):
        Mamba(16, **options)


def test_trains_through_the_fast_form_without_an_outer_bias():
    layer = mamba(16, conv_bias=False).train()
    layer(draw(2, 30, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_bidirectional_is_two_mixers_from_both_ends():
    torch.manual_seed(0)
    layer, x = Bidirectional(16, mixer=Spec("mamba", state=4)).eval(), draw(2, 3, 4, 16)
    turned = x.flatten(1, 2).flip(1)
    expected = layer.ahead(x.flatten(1, 2)) + layer.back(turned).flip(1)
    torch.testing.assert_close(layer(x).flatten(1, 2), expected)
    assert not torch.equal(layer.ahead.in_proj.weight, layer.back.in_proj.weight)


def test_bidirectional_lets_every_token_see_every_other():
    torch.manual_seed(0)
    layer, x = Bidirectional(8).eval(), draw(1, 10, 8).requires_grad_()
    for t in range(10):
        (grad,) = torch.autograd.grad(layer(x)[0, t].sum(), x)
        assert bool((grad[0].abs().sum(-1) > 0).all())


def test_bidirectional_takes_any_mixer_that_can_be_causal():
    torch.manual_seed(0)
    layer = build(Spec("bidirectional", mixer=Spec("attention", heads=2)), "mixer", dim=8, grid=(4, 4))
    assert layer.ahead.causal and layer.cost == 2.0
    assert layer(draw(2, 4, 4, 8)).shape == (2, 4, 4, 8)
    with pytest.raises(FitError, match="cannot be causal"):
        Bidirectional(8, mixer=Spec("window", heads=2))
