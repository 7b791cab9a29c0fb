"""The contract of token mixers, for every registered one: shape, gradient, independence, causality, state, cost."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from anyformer.core.build import build
from anyformer.core.registry import part_class
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.lab.profile import count_operations
from anyformer.layers.recurrence import recurrent
from anyformer.layers.recurrence.memory import MemoryMixer
from parts import DIM, GRIDS, MIXERS, causal_mixers, make_mixer, mixer_cases, tiny, tokens

CASES = mixer_cases()


def recurrent_mixers() -> list[str]:
    """Mixers that are one function from tokens and a state to both, and so cut long sequences."""
    return [n for n in causal_mixers() if issubclass(part_class(n), recurrent.Recurrent | MemoryMixer)]


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_keeps_the_shape(name: str, rank: int):
    x = tokens(GRIDS[rank])
    assert make_mixer(name, GRIDS[rank])(x).shape == x.shape


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_gradient_reaches_every_parameter(name: str, rank: int):
    mixer = make_mixer(name, GRIDS[rank])
    x = tokens(GRIDS[rank]).requires_grad_()
    y = mixer(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    for parameter, p in mixer.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), parameter
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_samples_do_not_see_each_other(name: str, rank: int):
    mixer = make_mixer(name, GRIDS[rank]).eval()
    x = tokens(GRIDS[rank])
    changed = x.clone()
    changed[1] += 1
    torch.testing.assert_close(mixer(x)[0], mixer(changed)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", causal_mixers())
def test_causal_mixers_do_not_look_ahead(name: str):
    mixer = make_mixer(name, (12,), causal=True).eval()
    x = tokens((12,))
    y = mixer(x)
    for t in (1, 5, 11):
        changed = x.clone()
        changed[:, t:] += torch.randn(2, 12 - t, DIM)
        torch.testing.assert_close(mixer(changed)[:, :t], y[:, :t], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", causal_mixers())
def test_steps_equal_the_parallel_form(name: str):
    mixer = make_mixer(name, (12,), causal=True).eval()
    x = tokens((12,))
    expected = mixer(x)
    state, outputs = mixer.init_state(2, like=x), []
    for token in x.unbind(1):
        y, state = mixer.step(token, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), expected, rtol=1e-5, atol=1e-5)
    first, state = mixer.extend(x[:, :5], mixer.init_state(2, like=x))
    second, _ = mixer.extend(x[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", recurrent_mixers())
def test_long_sequences_in_blocks_equal_whole_ones(name: str, monkeypatch: pytest.MonkeyPatch):
    mixer = make_mixer(name, (11,), causal=True).double().eval()
    x = tokens((11,)).double()
    documents = Segments(torch.tensor([[1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3], [1, 1, 1, 1, 2, 3, 3, 3, 3, 0, 0]]))
    whole = [mixer(x), mixer(x, documents)]
    monkeypatch.setattr(recurrent, "SHORTEST", 4)
    monkeypatch.setattr(recurrent, "BLOCK", 0)
    torch.testing.assert_close([mixer(x), mixer(x, documents)], whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", causal_mixers())
def test_steps_equal_the_parallel_form_over_512_tokens(name: str):
    mixer = make_mixer(name, (512,), causal=True).eval()
    x = tokens((512,), batch=1)
    with torch.no_grad():
        expected = mixer(x)
        state, outputs = mixer.init_state(1, like=x), []
        for token in x.unbind(1):
            y, state = mixer.step(token, state)
            outputs.append(y)
    assert (torch.stack(outputs, 1) - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("name", MIXERS)
def test_cost_grows_as_declared(name: str):
    cls = part_class(name)
    rank = cls.ranks[0]
    dim = 4 if cls.cost >= 1.5 else 16  # let the growing term dominate
    sizes, counts = [], []
    for tokens_wanted in (256, 1024):
        side = round(tokens_wanted ** (1 / rank))
        grid = (side,) * rank
        mixer = make_mixer(name, grid, dim=dim)
        sizes.append(math.prod(grid))
        counts.append(max(count_operations(mixer, tokens(grid, batch=1, dim=dim)), 1))
    grown = math.log(counts[1] / counts[0]) / math.log(sizes[1] / sizes[0])
    assert grown <= cls.cost + 0.15
    assert counts[1] == 1 or grown >= cls.cost - 0.25


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_bfloat16_stays_close(name: str, rank: int):
    mixer = make_mixer(name, GRIDS[rank]).eval()
    x = tokens(GRIDS[rank])
    with torch.no_grad():
        exact = mixer(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = mixer(x).float()
    assert (exact - rough).norm() <= 0.05 * exact.norm() + 1e-3


@pytest.mark.parametrize(("name", "rank"), [c for c in CASES if part_class(c[0]).padding])
def test_padding_changes_no_valid_output(name: str, rank: int):
    grid = GRIDS[rank]
    mixer = make_mixer(name, grid).eval()
    valid = torch.ones(2, *grid, dtype=torch.bool)
    valid[0, ..., -grid[-1] // 3 :] = False
    segments = Segments.from_mask(valid)
    x = tokens(grid)
    changed = torch.where(valid[..., None], x, tokens(grid, seed=9) * 5)
    y, z = mixer(x, segments), mixer(changed, segments)
    assert y.isfinite().all() and z.isfinite().all()
    torch.testing.assert_close(y[valid], z[valid], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in MIXERS if part_class(n).packing])
def test_packed_documents_do_not_see_each_other(name: str):
    causal = part_class(name).causality != "never"
    mixer = make_mixer(name, (12,), causal=causal).eval()
    x = tokens((12,), batch=1)
    packed = mixer(x, Segments(torch.tensor([[1] * 5 + [2] * 7])))
    alone = torch.cat([mixer(x[:, :5]), mixer(x[:, 5:])], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_spec_round_trip_and_saved_state(name: str):
    rank = part_class(name).ranks[-1]
    grid = GRIDS[rank]
    spec = tiny(name)
    again = Spec.from_yaml(spec.to_yaml())
    assert again == spec
    first = make_mixer(name, grid).eval()
    second = build(again, "mixer", dim=DIM, grid=grid, causal=False, layer=1, layers=4).eval()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    x = tokens(grid)
    torch.testing.assert_close(first(x), second(x))


@pytest.mark.parametrize("name", MIXERS)
def test_compiles_as_one_graph(name: str):
    rank = part_class(name).ranks[-1]
    mixer = make_mixer(name, GRIDS[rank]).eval()
    x = tokens(GRIDS[rank])
    torch._dynamo.reset()
    compiled = torch.compile(mixer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), mixer(x))
