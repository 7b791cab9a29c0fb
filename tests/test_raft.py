"""RAFT: the lookup, the upsampling, the recurrent unit, both encoders, and frames that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from anyformer import create_model, load_reference, model_spec
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.kernels import correlation
from anyformer.kernels.correlation import all_pairs, correlate, lookup_on_demand, lookup_plain
from anyformer.kernels.correlation.plain import sample
from anyformer.layers.embedding.convex import convex_upsample
from anyformer.layers.normalization.instance import InstanceNorm
from anyformer.layers.recurrence.conv_gru import ConvGRU
from anyformer.models.geometry.raft import places
from anyformer.weights.geometry.raft import NAMES
from parts import stirred, tokens

PUBLISHED = {"raft": 5_257_536, "raft_small": 990_162}


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str):
    with torch.device("meta"):
        model = create_model(name)
    assert model.num_parameters() == PUBLISHED[name] and model.stride == 8


def test_every_name_stands_for_a_variant():
    found = {source: {model_spec(f"{source}:{theirs}") for theirs in names} for source, names in NAMES.items()}
    assert all(specs == {model_spec("raft"), model_spec("raft_small")} for specs in found.values())


# -- correlations ---------------------------------------------------------------------------------------------


def test_correlations_are_scaled_inner_products():
    first, second = maps(2, 5, 3, 4), maps(2, 5, 6, 2, seed=1)
    expected = torch.einsum("bcij,bckl->bijkl", first, second) / 5**0.5
    torch.testing.assert_close(all_pairs(first, second), expected)


def test_the_lookup_at_integers_is_indexing_of_the_volume():
    radius, levels = 2, 2
    volume = maps(2, 8, 8, 8, 8)
    centres = torch.randint(0, 8, (2, 2, 8, 8), generator=torch.Generator().manual_seed(1)).float() // 2 * 2
    found = lookup_plain(volume, centres, radius, levels).unflatten(1, (levels, 5, 5))
    for level in range(levels):
        pooled = F.avg_pool2d(volume.flatten(0, 2)[:, None], 2**level)[:, 0].unflatten(0, (2, 8, 8))
        for b, i, j in ((0, 0, 0), (0, 3, 7), (1, 5, 2)):
            x, y = (int(c) // 2**level for c in centres[b, :, i, j])
            for dx in range(-radius, radius + 1):
                for dy in range(-radius, radius + 1):
                    inside = 0 <= y + dy < pooled.shape[-2] and 0 <= x + dx < pooled.shape[-1]
                    expected = float(pooled[b, i, j, y + dy, x + dx]) if inside else 0.0
                    assert float(found[b, level, dx + radius, dy + radius, i, j]) == pytest.approx(expected, abs=1e-5)


def test_between_integers_the_lookup_is_linear():
    volume = maps(1, 4, 4, 4, 4)
    here = places(maps(1, 1, 4, 4)).clone()
    ends = [lookup_plain(volume, here + torch.tensor([d, 0.0]).view(1, 2, 1, 1), 1, 1) for d in (0.0, 1.0)]
    third = lookup_plain(volume, here + torch.tensor([1 / 3, 0.0]).view(1, 2, 1, 1), 1, 1)
    torch.testing.assert_close(third, 2 / 3 * ends[0] + 1 / 3 * ends[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (17, 8)])
def test_on_demand_is_the_plain_form_in_value_and_gradient(size: tuple[int, int]):
    first, second = (maps(2, 6, *size, seed=s).double().requires_grad_() for s in (0, 1))
    centres = places(first) + 5 * maps(2, 2, *size, seed=2).double()
    centres[0, :, 0, 0] = torch.tensor([1e4, -1e4])  # far outside there is nothing
    results = []
    for form in (
        lambda: lookup_plain(all_pairs(first, second), centres, 3, 3),
        lambda: lookup_on_demand(first, second, centres, 3, 3),
        lambda: correlate(first, second, levels=3, radius=3)(centres),
    ):
        found = form()
        weights = maps(*found.shape, seed=3).double()
        results.append((found, *torch.autograd.grad((found * weights).sum(), (first, second))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b)
    assert not results[0][0][0, :, 0, 0].any()


def test_large_maps_are_read_on_demand(monkeypatch):
    first, second, centres = maps(1, 4, 8, 8), maps(1, 4, 8, 8, seed=1), 8 * torch.rand(1, 2, 8, 8)
    expected = correlate(first, second, levels=2, radius=1)(centres)
    monkeypatch.setattr(correlation, "VOLUME_BYTES", 1)
    monkeypatch.setattr(correlation, "all_pairs", None)  # a call of it would fail
    torch.testing.assert_close(correlate(first, second, levels=2, radius=1)(centres), expected)


def test_correlations_of_maps_that_do_not_fit_are_refused():
    with pytest.raises(SizeError, match=r"maps of one size; given \(1, 4, 8, 8\) and \(1, 4, 8, 9\)"):
        correlate(maps(1, 4, 8, 8), maps(1, 4, 8, 9))
    with pytest.raises(SizeError, match="4 levels takes maps of at least 16 x 16 places; given 8 x 8"):
        correlate(maps(1, 4, 8, 8), maps(1, 4, 8, 8))


def test_samples_of_one_pixel_are_that_pixel():
    assert float(sample(torch.full((1, 1, 1, 1), 3.0), torch.zeros(1, 1, 1, 2))) == 3.0


# -- parts ----------------------------------------------------------------------------------------------------


def test_convex_upsampling_of_a_constant_flow_is_that_flow():
    """Times eight in pixels; in the outermost places, weights on what lies outside pull it towards zero."""
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    fine = convex_upsample(8 * flow, maps(1, 9 * 64, 5, 6), 8)
    assert fine.shape == (1, 2, 40, 48)
    torch.testing.assert_close(fine[:, :, 8:-8, 8:-8], (8 * flow)[:, :, :1, :1].expand(1, 2, 24, 32))
    assert bool((fine[:, 0] <= 24 + 1e-4).all() and (fine[:, 0] >= 0).all())


def test_convex_upsampling_takes_the_neighbour_that_the_scores_say():
    flow = maps(1, 2, 4, 4)
    scores = torch.full((1, 9, 2, 2, 4, 4), -1e4)
    scores[:, 5] = 0  # the sixth of nine in rows: the neighbour on the right
    fine = convex_upsample(flow, scores.flatten(1, 3), 2)
    torch.testing.assert_close(fine[:, :, :, :6], flow[:, :, :, 1:].repeat_interleave(2, 2).repeat_interleave(2, 3))
    scores[:, 5, 0, 1] = -2e4  # the upper right of four fine places takes the neighbour below
    scores[:, 7, 0, 1] = 0
    fine = convex_upsample(flow, scores.flatten(1, 3), 2)
    torch.testing.assert_close(fine[:, :, 0:6:2, 1::2], flow[:, :, 1:])


def test_the_convolutional_unit_is_its_equation():
    unit = ConvGRU(3, 4, ((1, 5),))
    h, x = maps(2, 4, 6, 7), maps(2, 3, 6, 7, seed=1)
    cell = unit.cells[0]
    wz, wr = cell.gates.weight.chunk(2)
    bz, br = cell.gates.bias.chunk(2)
    both = torch.cat([h, x], 1)
    z = F.conv2d(both, wz, bz, padding=(0, 2)).sigmoid()
    r = F.conv2d(both, wr, br, padding=(0, 2)).sigmoid()
    q = F.conv2d(torch.cat([r * h, x], 1), cell.candidate.weight, cell.candidate.bias, padding=(0, 2)).tanh()
    torch.testing.assert_close(unit(h, x), (1 - z) * h + z * q)


def test_the_separable_unit_is_two_cells_and_sees_a_square():
    unit = ConvGRU(3, 4, ((1, 5), (5, 1)))
    h, x = maps(1, 4, 11, 11), maps(1, 3, 11, 11, seed=1)
    torch.testing.assert_close(unit(h, x), unit.cells[1](unit.cells[0](h, x), x))
    changed = x.clone()
    changed[:, :, 5, 5] += 1
    # The candidate sees the gate r of its neighbours, which saw theirs: four places each way.
    moved = (unit(h, x) - unit(h, changed)).abs().sum(1)[0] > 0
    assert moved[5, 5] and moved[4, 4] and not moved[:1].any() and not moved[:, -1:].any()
    with pytest.raises(OptionError, match=r"two odd numbers, height and width; given \(2, 3\)"):
        ConvGRU(3, 4, ((2, 3),))
    with pytest.raises(OptionError, match="a kernel for each of its cells; given none"):
        ConvGRU(3, 4, ())


def test_instance_norm_is_torch_s_and_forgets_brightness_and_contrast():
    norm, x = InstanceNorm(8), tokens((4, 6))
    expected = F.instance_norm(x.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm(3 * x + 5), norm(x), rtol=1e-3, atol=1e-4)


# -- the model ------------------------------------------------------------------------------------------------


def test_a_zero_head_gives_no_motion_between_any_frames():
    model = stirred(create_model("raft_micro"), 0.1).eval()
    frame, other = model.example_inputs()
    with torch.no_grad():
        assert model(frame, frame).abs().max() > 1e-3
        for p in model.head[-1].parameters():
            p.zero_()
        assert not model(frame, frame).any() and not model(frame, other).any()


def test_updates_improve_one_after_the_other_and_are_all_there_in_training():
    model = stirred(create_model("raft_micro"), 0.05)
    frames = model.example_inputs(batch=2)
    assert model.train()(*frames).shape == (2, 4, 2, 32, 32)
    model.eval()
    with torch.no_grad():
        flows = model.flows(*frames, updates=6)
        assert len(flows) == 6
        torch.testing.assert_close(flows[3], model(*frames))  # the same updates, and two more
    with pytest.raises(OptionError, match="once or more; given updates=0"):
        model.flows(*frames, updates=0)


def test_it_starts_from_a_flow_that_is_given():
    model = stirred(create_model("raft_micro"), 0.05).eval()
    frames = model.example_inputs()
    with torch.no_grad():
        for p in model.head[-1].parameters():
            p.zero_()
        start = torch.tensor([1.5, -0.5]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
        (flow,) = model.flows(*frames, updates=1, start=start)
        torch.testing.assert_close(flow[:, :, 4:-4, 4:-4], 4 * start[:, :, :1, :1].expand(1, 2, 24, 24))


def test_no_gradient_passes_through_where_it_looked():
    """The first update's head learns from its own estimate and through the state alone."""
    model = create_model("raft_micro").eval()
    frames = model.example_inputs()
    flows = model.flows(*frames, updates=2)
    (through,) = torch.autograd.grad(flows[1].sum(), model.head[-1].bias)
    (own,) = torch.autograd.grad(model.flows(*frames, updates=1)[0].sum(), model.head[-1].bias)
    torch.testing.assert_close(through, own, rtol=0.05, atol=1.0)  # twice as much, were the flow not cut off


def test_bilinear_upsampling_without_a_mask():
    model = stirred(create_model("raft_micro", mask_dim=None), 0.05).eval()
    assert model.mask is None and model(*model.example_inputs()).shape == (1, 2, 32, 32)
    flow = maps(1, 2, 8, 8)
    expected = 4 * F.interpolate(flow, scale_factor=4, mode="bilinear", align_corners=True)
    torch.testing.assert_close(model.enlarge(flow, flow), expected)


def test_any_image_model_can_be_the_encoder():
    encoder = model_spec("convnext_micro").replace("embed.size", 2)
    model = create_model("raft_micro", encoder=encoder, context=encoder, image_size=32).eval()
    assert model(*model.example_inputs()).shape == (1, 2, 32, 32)
    with pytest.raises(FitError, match="a backbone is an image model"):
        create_model("raft_micro", encoder=model_spec("gpt2_micro"))
    with pytest.raises(OptionError, match="give maps of one size; of 32x32 pixels, these give 8x8 and 4x4"):
        create_model("raft_micro", context=model_spec("raft_small")["context"])


def test_frames_that_do_not_fit_are_refused():
    with torch.device("meta"):
        model = create_model("raft").eval()
        assert model(torch.empty(1, 3, 128, 136), torch.empty(1, 3, 128, 136)).shape == (1, 2, 128, 136)
        with pytest.raises(
            ValueError, match=r"two frames of one size; given \(1, 3, 128, 128\) and \(1, 3, 128, 136\)"
        ):
            model(torch.empty(1, 3, 128, 128), torch.empty(1, 3, 128, 136))
        with pytest.raises(SizeError, match=r"multiples of 8.*given 130x200, the nearest is 128x200"):
            model(torch.empty(1, 3, 130, 200), torch.empty(1, 3, 130, 200))
        with pytest.raises(SizeError, match="for 4 levels of correlations, 128 at least; given 64x200"):
            model(torch.empty(1, 3, 64, 200), torch.empty(1, 3, 64, 200))
        with pytest.raises(SizeError, match="given 100x100"):
            create_model("raft", image_size=100)


def test_the_published_files_have_a_prefix_and_a_norm_under_two_names():
    from golden import Golden

    golden = Golden("raft--raft--official")
    state = {f"module.{name}": tensor for name, tensor in golden.state().items()}
    assert "module.cnet.layer2.0.norm3.weight" in state
    report = load_reference(create_model("official:raft-things"), state, "official")
    assert report.complete
