"""Recurrences with fixed decays, long convolutions, and the mixers made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import nbytes, select_rows
from anyformer.kernels.diagonal_recurrence import convolved, diagonal_filter, diagonal_kernel, diagonal_scan, plain
from anyformer.kernels.long_convolution import long_convolution
from parts import stirred


def case(n: int, states: int, real: bool = False) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(n)
    log_a = -torch.rand(3, states, generator=g, dtype=torch.float64)
    weight = torch.randn(3, states, generator=g, dtype=torch.float64)
    if not real:
        log_a = torch.complex(log_a, 3 * torch.randn(3, states, generator=g, dtype=torch.float64))
        weight = torch.complex(weight, torch.randn(3, states, generator=g, dtype=torch.float64))
    u = torch.randn(2, n, 3, generator=g, dtype=torch.float64)
    state = torch.randn(2, 3, states, generator=g, dtype=torch.float64).to(log_a.dtype)
    return u, log_a, weight, state


def slow(u, log_a, weight, state, resets=None):
    entering = u[..., None].expand(*u.shape, log_a.shape[1]).to(log_a.dtype)
    h, last = plain.diagonal_scan(entering, log_a, resets, state)
    return (weight * h).sum(-1).real if log_a.is_complex() else (weight * h).sum(-1), last


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 65])
def test_forms_of_the_filter_agree_in_value_and_gradient(n: int, real: bool):
    given = case(n, 4, real)
    inputs = [t.requires_grad_() for t in given]
    y, last = diagonal_filter(*inputs[:3], state=inputs[3])
    expected, expected_last = slow(*inputs)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, expected_last)
    for ours, theirs in zip(
        torch.autograd.grad(y.sin().sum(), inputs), torch.autograd.grad(expected.sin().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_documents_begin_without_a_past():
    u, log_a, weight, state = case(20, 3)
    resets = torch.zeros(2, 20, dtype=torch.bool)
    resets[0, 7] = resets[1, 0] = resets[1, 13] = True
    y, last = diagonal_filter(u, log_a, weight, resets=resets, state=state)
    expected, expected_last = slow(u, log_a, weight, state, resets)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, expected_last)


def test_scan_of_any_states():
    x = torch.randn(2, 33, 4, 5, dtype=torch.float64)
    log_a = -torch.rand(4, 5, dtype=torch.float64)
    start = torch.randn(2, 4, 5, dtype=torch.float64)
    h, last = diagonal_scan(x, log_a, state=start)
    expected, _ = plain.diagonal_scan(x, log_a, None, start)
    torch.testing.assert_close(h, expected)
    torch.testing.assert_close(last, expected[:, -1])


def test_powers_are_all_there():
    log_a = -torch.rand(2, 3, dtype=torch.float64)
    for n in (1, 2, 3, 9, 10, 17):
        kernel = diagonal_kernel(log_a, torch.ones(2, 3, dtype=torch.float64), n)
        steps = torch.arange(n)
        torch.testing.assert_close(kernel, (log_a[..., None] * steps).exp().sum(1))
        assert max(t.shape[-1] for t in convolved.powers(log_a, n)) <= n**0.5 + 1


@pytest.mark.parametrize("taps", [1, 4, 9, 20])
def test_long_convolution_is_causal_and_the_sum(taps: int):
    x, kernel = torch.randn(2, 9, 3, dtype=torch.float64), torch.randn(3, taps, dtype=torch.float64)
    y = long_convolution(x, kernel)
    for t in range(9):
        expected = sum(kernel[:, s] * x[:, t - s] for s in range(min(t + 1, taps)))
        torch.testing.assert_close(y[:, t], expected)
    with pytest.raises(SizeError, match="3 channels need a filter"):
        long_convolution(x, kernel[:2])


def test_shapes_that_do_not_belong_together_are_named():
    u, log_a, weight, state = case(5, 4)
    with pytest.raises(SizeError, match="weight has shape"):
        diagonal_filter(u, log_a, weight[:, :2], state=state)
    with pytest.raises(SizeError, match="state"):
        diagonal_filter(u, log_a, weight, state=state[:1])


MIXERS = {
    "s4d": {"state": 8},
    "s5": {"state": 12},
    "h3": {"head_dim": 4, "state": 8},
    "ema": {"states": 4, "causal": True},
}


@pytest.mark.parametrize("name", MIXERS)
def test_filter_and_recurrence_are_one(name: str):
    """By FFT over the whole, and by the recurrence one token after the other."""
    torch.manual_seed(0)
    mixer: Any = stirred(build(Spec(name, **MIXERS[name]), "mixer", dim=16), 0.1).eval().double()
    x = torch.randn(2, 100, 16, dtype=torch.float64)
    state, outputs = mixer.init_state(2, like=x), []
    size = nbytes(state)
    with torch.no_grad():
        for token in x.unbind(1):
            y, state = mixer.step(token, state)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs, 1), mixer(x), rtol=1e-6, atol=1e-6)
    assert nbytes(state) == size


def test_average_from_both_ends_keeps_documents_apart():
    mixer: Any = stirred(build(Spec("ema", states=3), "mixer", dim=8)).eval()
    x = torch.randn(1, 12, 8)
    packed = mixer(x, Segments(torch.tensor([[1] * 5 + [2] * 7])))
    torch.testing.assert_close(packed, torch.cat([mixer(x[:, :5]), mixer(x[:, 5:])], 1), rtol=1e-5, atol=1e-5)
    changed = x.clone()
    changed[:, -1] += 1
    assert not torch.allclose(mixer(changed)[:, 0], mixer(x)[:, 0])


def test_s5_starts_with_the_normal_part_of_hippo():
    from anyformer.layers.recurrence.s5 import hippo_normal

    values, vectors = hippo_normal(6)
    n = torch.arange(6)
    root = (2 * n + 1.0).sqrt()
    legs = -(root[:, None] * root[None]).tril(-1) - torch.diag(n + 1.0)
    normal = legs + 0.5 * root[:, None] * root[None]
    torch.testing.assert_close((vectors * values) @ vectors.conj().T, normal.to(torch.complex64), rtol=1e-4, atol=1e-4)


def test_hyena_goes_on_without_reading_again():
    """One token a step, also where the taps kept no longer suffice; rows may be picked from the state."""
    mixer: Any = stirred(build(Spec("hyena", length=200, width=8, order=3), "mixer", dim=8), 0.1).eval()
    x, read = torch.randn(3, 200, 8), []
    mixer.project.register_forward_pre_hook(lambda _, given: read.append(given[0].shape[1]))
    with torch.no_grad():
        whole = mixer(x)
        first, state = mixer.extend(x[:, :40], mixer.init_state(3, like=x))
        found = [first]
        for token in x[:, 40:].split(1, 1):
            y, state = mixer.extend(token, state)
            found.append(y)
        torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-4, atol=1e-5)
        assert read == [200, 40] + [1] * 160
        _, state = mixer.extend(x[:, :40], mixer.init_state(3, like=x))
        rows = torch.tensor([2, 0])
        y, _ = mixer.extend(x[rows, 40:41], select_rows(state, rows))
        torch.testing.assert_close(y, whole[rows, 40:41], rtol=1e-4, atol=1e-5)
    with pytest.raises(SizeError, match="200 tokens long; given 201"):
        mixer.extend(x[:, :161], state)


def test_hyena_sees_back_to_the_start_and_no_further_than_its_filters():
    torch.manual_seed(0)
    mixer: Any = stirred(build(Spec("hyena", length=32, width=8, order=3), "mixer", dim=8), 0.1).eval()
    x = torch.randn(1, 32, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(mixer(x)[:, 20].sum(), x)
    seen = grad.abs().sum(-1)[0]
    assert (seen[:21] > 1e-6).all() and (seen[21:] < 1e-5 * seen.max()).all()
    with pytest.raises(SizeError, match="32 tokens long; given 33: build it with length=33"):
        mixer(torch.randn(1, 33, 8))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("s4d", {"state": 5}, "even number"),
        ("s4d", {"dt_min": 0.0}, "0 < dt_min"),
        ("s5", {"state": 0}, "1 state or more"),
        ("h3", {"head_dim": 3}, "do not divide 8"),
        ("h3", {"head_dim": 2, "state": 3}, "even number"),
        ("hyena", {"order": 1}, "order of 2 or more"),
        ("ema", {"states": 0}, "1 or more"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], message: str):
    with pytest.raises(OptionError, match=message):
        build(Spec(name, **options), "mixer", dim=8)
