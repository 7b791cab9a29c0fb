"""Neighborhood attention: every form against the equation in value and gradient, it against a loop over tokens."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.kernels.neighborhood import (
    neighborhood_attention,
    neighborhood_flex,
    neighborhood_plain,
    neighborhood_tiled,
    neighborhood_weights,
)
from anyformer.kernels.neighborhood.flex import in_neighbourhood, with_bias
from anyformer.kernels.neighborhood.plain import neighbours
from anyformer.lab.profile import count_operations, growth_exponent, shapes_only
from anyformer.layers.attention.full import Attention
from anyformer.layers.attention.local.neighborhood import NeighborhoodAttention
from anyformer.layers.attention.local.window import WindowAttention
from parts import stirred

CASES = {  # grid: kernel, dilation
    (13,): ((5,), (2,)),
    (70,): ((7,), (1,)),
    (9, 11): ((3, 5), (3, 2)),
    (17, 20): ((7, 7), (1, 1)),
    (5, 7): ((5, 7), (1, 1)),
    (4, 6): ((4, 3), (1, 2)),
    (5, 6, 7): ((3, 3, 3), (1, 2, 2)),
}


def draw(grid: tuple[int, ...], kernel: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Queries, keys and values of two heads, values with another width, and a bias."""
    generator = torch.Generator().manual_seed(math.prod(grid))
    shapes = {"q": (2, 2, *grid, 4), "k": (2, 2, *grid, 4), "v": (2, 2, *grid, 4)}
    shapes["bias"] = (2, math.prod(2 * side - 1 for side in kernel))
    return {n: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for n, shape in shapes.items()}


def results(form: Any, given: dict[str, Tensor], **options: Any) -> list[Tensor]:
    """The output, and the gradient of everything."""
    given = {name: t.detach().clone().requires_grad_() for name, t in given.items()}
    y = form(**given, **options)
    y.sin().sum().backward()
    return [y.detach(), *(t.grad for t in given.values() if t.grad is not None)]


def looped(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, kernel: Any, dilation: Any) -> Tensor:
    """One token at a time, its neighbours picked by hand."""
    grid = q.shape[2:-1]
    out = torch.zeros_like(v)
    for place in itertools.product(*map(range, grid)):
        axes = []
        for at, size, side, step in zip(place, grid, kernel, dilation, strict=True):
            same = list(range(at % step, size, step))
            mine = same.index(at)
            begin = min(max(mine - side // 2, 0), len(same) - side)
            axes.append([(same[begin + j], mine - begin - j + side - 1) for j in range(side)])
        scores, values = [], []
        for found in itertools.product(*axes):
            key = tuple(other for other, _ in found)
            row = 0
            for (_, offset), side in zip(found, kernel, strict=True):
                row = row * (2 * side - 1) + offset
            at_query, at_key = (slice(None), slice(None), *place), (slice(None), slice(None), *key)
            scores.append((q[at_query] * k[at_key]).sum(-1) / q.shape[-1] ** 0.5 + bias[:, row])
            values.append(v[at_key])
        weights = torch.stack(scores, -1).softmax(-1)
        out[(slice(None), slice(None), *place)] = (weights[..., None] * torch.stack(values, -2)).sum(-2)
    return out


@pytest.mark.parametrize("grid", [(13,), (9, 11), (4, 6), (5, 6, 7)])
def test_the_equation_is_what_a_loop_over_tokens_gives(grid):
    kernel, dilation = CASES[grid]
    given = draw(grid, kernel)
    expected = looped(**given, kernel=kernel, dilation=dilation)
    torch.testing.assert_close(neighborhood_plain(**given, kernel=kernel, dilation=dilation), expected)


@pytest.mark.parametrize("grid", CASES)
def test_tiles_equal_the_equation_in_value_and_gradient(grid):
    kernel, dilation = CASES[grid]
    given = draw(grid, kernel)
    expected = results(neighborhood_plain, given, kernel=kernel, dilation=dilation)
    found = results(neighborhood_tiled, given, kernel=kernel, dilation=dilation)
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("grid", [(13,), (17, 20), (5, 6, 7)])
def test_keys_that_are_not_valid_are_not_seen_by_any_form(grid):
    kernel, dilation = CASES[grid]
    given = draw(grid, kernel)
    valid = torch.rand(2, *grid, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[1] = False
    options = {"kernel": kernel, "dilation": dilation, "valid": valid}
    expected = results(neighborhood_plain, given, **options)
    assert expected[0][1].abs().max() == 0
    for ours, theirs in zip(results(neighborhood_tiled, given, **options), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_tiles_stay_close_in_extremes():
    given = draw((17, 20), (7, 7), torch.float32)
    given = {"q": 100 * given["q"], "k": 100 * given["k"], "v": given["v"], "bias": given["bias"]}
    options = {"kernel": (7, 7), "dilation": (2, 2)}
    found = neighborhood_tiled(**given, **options)
    assert found.isfinite().all()
    torch.testing.assert_close(found, neighborhood_plain(**given, **options), rtol=1e-3, atol=1e-3)
    half = {name: t.bfloat16() for name, t in draw((17, 20), (7, 7)).items()}
    exact = neighborhood_plain(**draw((17, 20), (7, 7)), **options).float()
    assert (neighborhood_tiled(**half, **options).float() - exact).norm() < 0.02 * exact.norm()


def test_no_sample_is_no_error():
    given = {n: t if n == "bias" else t[:0] for n, t in draw((9, 11), (3, 5)).items()}
    assert neighborhood_tiled(**given, kernel=(3, 5), dilation=(3, 2)).shape == (0, 2, 9, 11, 4)


def test_what_is_gathered_in_parts_is_the_same(monkeypatch):
    given = draw((30, 30), (5, 5))
    options = {"kernel": (5, 5), "dilation": (1, 1)}
    whole = neighborhood_tiled(**given, **options)
    monkeypatch.setattr("anyformer.kernels.neighborhood.tiled.GATHERED", 5000)
    torch.testing.assert_close(neighborhood_tiled(**given, **options), whole)


def test_a_plan_made_in_inference_serves_training():
    given = draw((11, 12), (3, 3))
    with torch.inference_mode():
        neighborhood_tiled(**given, kernel=(3, 3), dilation=(1, 1))
    assert len(results(neighborhood_tiled, given, kernel=(3, 3), dilation=(1, 1))) == 5


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("grid", CASES)
def test_the_form_for_a_gpu_equals_the_equation(grid):
    """It has no backward on a CPU; there its mask and its bias are held to the equation, with the bias's gradient."""
    kernel, dilation = CASES[grid]
    given = draw(grid, kernel, torch.float32)
    with torch.no_grad():
        expected = neighborhood_plain(**given, kernel=kernel, dilation=dilation)
        found = neighborhood_flex(**given, kernel=kernel, dilation=dilation)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    n = math.prod(grid)
    keys, rows = neighbours(grid, kernel, dilation, torch.device("cpu"))
    seen = torch.zeros(n, n, dtype=torch.bool).scatter_(1, keys, True)
    mask = create_mask(in_neighbourhood(grid, kernel, dilation), None, None, n, n, device="cpu")
    assert torch.equal(mask[0, 0], seen)
    table = given["bias"].clone().requires_grad_()
    queries, others = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    changed = with_bias(table, grid, kernel, dilation)
    for head in range(2):
        scores = changed(torch.zeros(n, n), torch.tensor(0), torch.tensor(head), queries, others)
        torch.testing.assert_close(scores.gather(1, keys), table[head, rows])
    (scores * seen).sum().backward()
    assert table.grad is not None
    counts = torch.bincount(rows.flatten(), minlength=table.shape[1]).float()
    torch.testing.assert_close(table.grad[1], counts)


@pytest.mark.parametrize("grid", [(70,), (17, 20), (5, 6, 7)])
def test_the_form_that_is_picked_equals_the_equation_on_this_machine(grid):
    """With heads of 16 channels, which a GPU takes to its own kernel."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kernel, dilation = CASES[grid]
    given = draw(grid, kernel, torch.float32)
    given = {n: (t if n == "bias" else torch.cat([t, -t, t.flip(0), t.cos()], -1)).to(device) for n, t in given.items()}
    expected = results(neighborhood_plain, given, kernel=kernel, dilation=dilation)
    found = results(neighborhood_attention, given, kernel=kernel, dilation=dilation)
    tolerance = 1e-2 if device == "cuda" else 1e-4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_every_token_sees_as_many_keys_at_borders_too():
    keys, rows = neighbours((9, 12), (3, 5), (2, 1), torch.device("cpu"))
    assert keys.shape == rows.shape == (9 * 12, 15)
    assert all(len(set(found)) == 15 for found in keys.tolist())
    corner = {(i, j) for i in (0, 2, 4) for j in range(5)}
    assert {divmod(key, 12) for key in keys[0].tolist()} == corner


def test_dilation_is_attention_in_each_interleaved_map():
    given = draw((12, 9), (3, 3))
    whole = neighborhood_attention(**given, kernel=(3, 3), dilation=(4, 3))
    for i, j in itertools.product(range(4), range(3)):
        part = {n: t if n == "bias" else t[:, :, i::4, j::3] for n, t in given.items()}
        alone = neighborhood_attention(**part, kernel=(3, 3), dilation=(1, 1))
        torch.testing.assert_close(whole[:, :, i::4, j::3], alone, rtol=1e-5, atol=1e-5)


def test_a_kernel_as_large_as_the_map_is_full_attention():
    near = stirred(NeighborhoodAttention(8, heads=2, kernel=7, grid=(7, 7)))
    window = WindowAttention(8, heads=2, window=7, grid=(7, 7))
    window.load_state_dict(near.state_dict())
    x = torch.randn(2, 7, 7, 8)
    torch.testing.assert_close(near(x), window(x), rtol=1e-5, atol=1e-5)
    plain = stirred(NeighborhoodAttention(8, heads=2, kernel=9, distance=None, grid=(9,)))
    full = Attention(8, heads=2)
    full.load_state_dict(plain.state_dict())
    x = torch.randn(2, 9, 8)
    torch.testing.assert_close(plain(x), full(x), rtol=1e-5, atol=1e-5)


def test_what_lies_outside_of_the_neighbourhood_has_no_influence():
    mixer = stirred(NeighborhoodAttention(8, heads=2, kernel=3, dilation=2, grid=(9, 9)))
    for (i, j), rows, columns in (((4, 5), (2, 4, 6), (3, 5, 7)), ((0, 8), (0, 2, 4), (4, 6, 8))):
        x = torch.randn(1, 9, 9, 8, requires_grad=True)
        mixer(x)[0, i, j].sum().backward()
        assert x.grad is not None
        reached = {(a, b) for a, b in x.grad[0].abs().sum(-1).nonzero().tolist()}
        assert reached == set(itertools.product(rows, columns))


def test_inner_outputs_move_with_the_image():
    mixer = stirred(NeighborhoodAttention(8, heads=2, kernel=3, dilation=2, grid=(16, 16))).eval()
    x = torch.randn(1, 16, 16, 8)
    moved = mixer(x.roll((2, 3), (1, 2)))
    torch.testing.assert_close(moved[:, 5:13, 6:13], mixer(x)[:, 3:11, 3:10], rtol=1e-5, atol=1e-5)


def test_operations_do_not_depend_on_dilation_and_grow_with_tokens():
    def operations(side: int, dilation: int) -> int:
        with shapes_only():
            mixer = NeighborhoodAttention(8, heads=2, kernel=3, dilation=dilation, grid=(side, side))
            return count_operations(mixer, torch.randn(1, side, side, 8))

    assert operations(24, 1) == operations(24, 4) == operations(24, 8) == 24 * 24 * (4 * 64 + 2 * 9 * 8)
    executed = []
    for side in (32, 64, 128):
        mixer = NeighborhoodAttention(8, heads=2, kernel=7, grid=(side, side))
        executed.append(count_operations(mixer, torch.randn(1, side, side, 8)))
    assert abs(growth_exponent([s * s for s in (32, 64, 128)], executed) - 1) < 0.05


def test_maps_show_the_weights_of_neighbours():
    model = create_model("dinat_micro", num_classes=3, in_channels=1).eval()
    images = torch.randn(2, 1, 8, 8)
    logits, found = model(images, taps=["attention"])
    assert [tuple(m.shape) for m in found.values()] == [(2, 2, 64, 9)] * 2 + [(2, 4, 16, 9)] * 2
    assert all(torch.allclose(m.sum(-1), torch.ones(())) for m in found.values())
    torch.testing.assert_close(logits, model(images), rtol=1e-5, atol=1e-5)
    weights = neighborhood_weights(*(draw((5, 6), (3, 3))[n] for n in "qk"), kernel=(3, 3), dilation=(1, 2))
    assert weights.shape == (2, 2, 30, 9)


def test_a_map_that_is_too_small_is_refused_filled_or_met_with_a_smaller_kernel():
    with pytest.raises(SizeError, match=r"kernel of 7x7 with dilation 4x4 .* 27x30 tokens; .* 28x28 tokens or more"):
        NeighborhoodAttention(8, heads=2, kernel=7, dilation=4, grid=(27, 30))
    with pytest.raises(ValueError, match="kernel of 7x7 with dilation 1x1"):
        NeighborhoodAttention(8, heads=2, kernel=7)(torch.randn(1, 6, 9, 8))
    with pytest.raises(SizeError, match="larger than the map"):
        neighborhood_attention(**draw((5, 6), (3, 3)), kernel=(3, 3), dilation=(2, 1))
    filled = stirred(NeighborhoodAttention(8, heads=2, kernel=5, rest="pad", grid=(3, 6)))
    x = torch.randn(1, 3, 6, 8)
    torch.testing.assert_close(filled(x), filled(torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 2)))[:, :3])
    capped = NeighborhoodAttention(8, heads=2, kernel=7, dilation=2, cap=True, grid=(4, 20))
    assert capped.kernel == (2, 7) and capped(torch.randn(1, 4, 20, 8)).shape == (1, 4, 20, 8)


def test_padding_beside_a_map_that_is_filled_is_not_seen():
    mixer = stirred(NeighborhoodAttention(8, heads=2, kernel=5, rest="pad", grid=(3, 6)))
    x = torch.randn(1, 3, 6, 8)
    valid = torch.ones(1, 3, 6, dtype=torch.bool)
    valid[..., 4:] = False
    other = torch.where(valid[..., None], x, torch.full_like(x, 9.0))
    torch.testing.assert_close(
        mixer(x, Segments.from_mask(valid))[valid], mixer(other, Segments.from_mask(valid))[valid]
    )


@pytest.mark.parametrize("options", [{"kernel": 4}, {"kernel": 0}, {"dilation": 0}, {"dilation": (1, 2, 3)}])
def test_kernels_are_odd_and_dilations_count(options):
    with pytest.raises(OptionError, match=r"neighborhood.kernel is odd|dilation is 1 or more"):
        NeighborhoodAttention(8, heads=2, **options)
