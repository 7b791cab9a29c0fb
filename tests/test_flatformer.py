"""FlatFormer: groups of equal size and what they promise, pillars, and the likeliest misuse."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from anyformer import create_model
from anyformer.core.build import build
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.kernels.attention import attention_plain
from anyformer.lab.profile import count_operations
from anyformer.layers.attention.local.flattened_window import equal_groups, window_keys
from anyformer.layers.attention.projection import merge_heads
from anyformer.models.geometry.pillars import stand
from parts import stirred


def part(grid: tuple[int | None, int | None] = (None, None), **options):
    torch.manual_seed(0)
    given = {"heads": 2, "window": 4, "group": 8} | options
    return stirred(build(Spec("flattened_window", **given), "mixer", dim=16, grid=grid)).eval()


def block(**options):
    torch.manual_seed(0)
    mixer = Spec("flattened_window", **({"heads": 2, "window": 4, "group": 8} | options))
    return stirred(build(Spec("placed_postnorm", mixer=mixer), "block", dim=16, grid=(20, 20))).eval()


def cells(count: int, batch: int = 2, side: int = 20, seed: int = 0) -> Tensor:
    """Different cells of a square grid, in any order."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.stack([torch.randperm(side * side, generator=generator)[:count] for _ in range(batch)])
    return torch.stack([chosen // side, chosen % side], -1)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 99])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_every_point_is_in_one_group_and_filling_is_less_than_a_group(count: int, axis):
    places = cells(count)
    groups = equal_groups(window_keys(places, 4, axis, 2), 8)
    assert groups.tokens.shape == (2, -(-count // 8), 8)
    assert groups.slots - 2 * count < 2 * 8
    taken = groups.tokens.flatten(1).gather(1, groups.own)
    assert torch.equal(taken, torch.arange(count).expand(2, -1)), "its own slot holds the point itself"
    assert all(row.unique().numel() == count for row in groups.own)
    if count >= 8:
        assert groups.seen.all()
        last = groups.tokens[:, -1].sort(1).values
        order = window_keys(places, 4, axis, 2).argsort(1)
        assert torch.equal(last, order[:, -8:].sort(1).values), "the last group holds the last points"
    else:
        assert groups.seen.sum() == 2 * count


def test_clouds_of_a_batch_are_filled_each_on_its_own():
    counts = [3, 8, 21]
    groups = equal_groups(window_keys(cells(21, 3), 4), 8, Segments.from_lengths(counts, 21).valid)
    assert groups.used.sum(1).tolist() == [1, 1, 3] and groups.slots == 8 * 5
    for i, count in enumerate(counts):
        held = groups.tokens[i][groups.seen[i]]
        assert held.max() < count and held.unique().numel() == count


def test_the_way_passes_windows_row_by_row_and_turns():
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4))[None]
    way = places[0][window_keys(places, 2, "x")[0].argsort()].tolist()
    assert way[:8] == [[0, 0], [1, 0], [1, 1], [0, 1], [0, 2], [1, 2], [1, 3], [0, 3]]
    assert {tuple(p) for p in way[8:12]} == {(2, 2), (2, 3), (3, 2), (3, 3)}, "back again in the next row of windows"
    other = places[0][window_keys(places, 2, "y")[0].argsort()].tolist()
    assert other == [p[::-1] for p in way]
    steps = torch.tensor(way).diff(dim=0).abs().sum(1)
    assert steps.max() <= 2


@torch.no_grad()
@pytest.mark.parametrize("count", [5, 8, 50])
def test_another_order_of_points_gives_the_same_in_that_order(count: int):
    one, x, places = block(shift="half"), torch.randn(2, count, 16), cells(count)
    order = torch.randperm(count)
    torch.testing.assert_close(
        one(x[:, order], None, places[:, order]), one(x, None, places)[:, order], rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("group", [30, 64])
def test_one_group_for_all_equals_full_attention(group: int):
    mixer, x, places = part(group=group), torch.randn(2, 30, 16), cells(30)
    inner = mixer.attention
    told = x + mixer.codes(places)
    q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (inner.query(told), inner.key(told), inner.value(x)))
    full = inner.out(merge_heads(attention_plain(q, k, v)))
    torch.testing.assert_close(mixer(x, None, places), full, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_padding_and_other_clouds_of_a_batch_change_nothing():
    one, counts = block(), [3, 20, 33]
    x, places = torch.randn(3, 33, 16), cells(33, 3)
    y = one(x, Segments.from_lengths(counts, 33), places)
    for i, n in enumerate(counts):
        alone = one(x[i : i + 1, :n], None, places[i : i + 1, :n])
        torch.testing.assert_close(y[i : i + 1, :n], alone, rtol=1e-5, atol=1e-5)


def test_operations_grow_with_the_points_alone():
    def operations(count: int) -> int:
        return count_operations(part(group=64), torch.randn(1, count, 16), None, cells(count, 1, side=256))

    assert operations(32768) / operations(2048) == pytest.approx(16, rel=0.01)


@torch.no_grad()
def test_time_grows_about_linearly():
    mixer = part(group=64)

    def seconds(count: int) -> float:
        x, places = torch.randn(1, count, 16), cells(count, 1, side=256)
        mixer(x, None, places)
        spent = []
        for _ in range(5):
            begin = time.process_time()
            mixer(x, None, places)
            spent.append(time.process_time() - begin)
        return min(spent)

    assert seconds(32768) / seconds(2048) < 16 * 1.5


@torch.no_grad()
def test_a_grid_is_a_cloud_of_all_its_cells():
    mixer, x = part(), torch.randn(2, 6, 5, 16)
    places = torch.cartesian_prod(torch.arange(6), torch.arange(5)).expand(2, -1, -1)
    torch.testing.assert_close(mixer(x).flatten(1, 2), mixer(x.flatten(1, 2), None, places))


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        (torch.tensor([[[0, 20]]]), DataError, "20 rows and 20 columns, counted from 0; given rows 0 to 0.*20 to 20"),
        (torch.tensor([[[-1, 3]]]), DataError, "given rows -1 to -1"),
        (torch.tensor([[[1.0, 3.0]]]), DataError, "whole numbers.*given float32.*take the floor"),
        (torch.zeros(1, 0, 2, dtype=torch.long), SizeError, r"a cloud has one token or more; given places \(1, 0, 2\)"),
        (torch.zeros(1, 4, 3, dtype=torch.long), SizeError, r"\(batch, tokens, 2\).*given \(1, 4, 3\)"),
    ],
)
def test_places_that_are_no_cells_are_refused(places: Tensor, error, message: str):
    with pytest.raises(error, match=message):
        part((20, 20))(torch.zeros(1, places.shape[1], 16), None, places)


def test_an_empty_cloud_of_a_batch_is_refused():
    segments = Segments.from_lengths([4, 0], 4)
    with pytest.raises(SizeError, match="one of this batch is empty"):
        part()(torch.zeros(2, 4, 16), segments, cells(4))
    model = create_model("flatformer_micro")
    (points,) = model.example_inputs(batch=2)
    with pytest.raises(SizeError, match="one of this batch is empty"):
        model(points, segments.valid.repeat(1, 16))


def test_pillars_hold_the_points_of_their_cell():
    places = torch.tensor([[[1, 1], [0, 2], [1, 1], [0, 0], [1, 1]], [[0, 0], [2, 2], [2, 2], [0, 0], [0, 0]]])
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]])
    found = stand(places, (3, 3), valid)
    assert found.places.tolist() == [[[0, 0], [0, 2], [1, 1]], [[0, 0], [2, 2], [0, 0]]]
    assert found.of.tolist() == [[2, 1, 2, 0, 2], [0, 1, 1, 3, 3]]
    assert found.segments.valid.tolist() == [[True] * 3, [True, True, False]]
    x = torch.tensor([[1.0, 2, 3, 4, 8], [5, 6, 7, 90, 90]])[..., None]
    assert found.highest(x)[..., 0].tolist() == [[4, 2, 8], [5, 7, 0]]
    assert found.mean(x)[..., 0].tolist() == [[4, 2, 4], [5, 6.5, 0]]
    assert found.gathered(found.mean(x))[..., 0].tolist() == [[4, 2, 4, 4, 4], [5, 6.5, 6.5, 0, 0]]


@torch.no_grad()
def test_points_in_any_order_and_padded_are_classified_alike():
    model = stirred(create_model("flatformer_micro", num_classes=4), 0.1).eval()
    (points,) = model.example_inputs(size=80, batch=2)
    scores = model(points)
    order = torch.randperm(80)
    torch.testing.assert_close(model(points[:, order]), scores[:, order], rtol=1e-4, atol=1e-5)
    padded = torch.cat([points, torch.full((2, 9, 4), float("nan"))], 1)
    valid = torch.arange(89).expand(2, -1) < 80
    torch.testing.assert_close(model(padded, valid)[:, :80], scores, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_map_from_above_has_pillars_where_points_are():
    model = create_model("flatformer_micro").eval()
    (points,) = model.example_inputs(size=10)
    points[0, :, 0] = torch.linspace(-15.5, 10, 10)
    points[0, :, 1] = 3.5
    (seen,) = model.features(points)
    columns = ((points[0, :, 0] + 16).floor()).long().unique()
    assert seen.shape == (1, 48, 32, 32)
    held = seen[0].abs().sum(0).nonzero()
    assert held[:, 0].unique().tolist() == [19] and torch.equal(held[:, 1], columns)


def test_points_outside_of_the_extent_or_of_other_values_are_refused():
    model = create_model("flatformer_micro")
    (points,) = model.example_inputs()
    far = points.clone()
    far[0, 0, 0] = 16.0
    with pytest.raises(DataError, match=r"x -16 to 16 and y -16 to 16; given x .* to 16"):
        model(far)
    far[0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="finite"):
        model(far)
    with pytest.raises(SizeError, match=r"4 values from x, y, z on\); given \(1, 64, 3\)"):
        model(points[..., :3])
    with pytest.raises(SizeError, match=r"given \(1, 0, 4\)"):
        model(points[:, :0])


def test_options_that_make_no_model_are_refused():
    with pytest.raises(OptionError, match="window and group are 1 or more; given 0 and 8"):
        part(window=0)
    with pytest.raises(OptionError, match="at least a cell apart; given"):
        create_model("flatformer_micro", extent=(0.0, 0.0, 0.0, 0.5, 9.0, 1.0))
    with pytest.raises(OptionError, match="in_channels is 3 or more"):
        create_model("flatformer_micro", in_channels=2)


def test_other_mixers_of_sequences_fit_too():
    model = create_model("flatformer_micro", mixer="attention")
    (points,) = model.example_inputs(batch=2)
    assert model(points).isfinite().all()
