"""AST and PaSST: what Patchout leaves and keeps, positions, embeddings over time, names, misuse."""

from __future__ import annotations

import pytest
import torch

from anyformer import create_model
from anyformer.core.errors import OptionError, SizeError
from anyformer.lab.profile import count_operations
from anyformer.layers.position.time_frequency import TimeFrequencyPosition
from anyformer.layers.spectral.mel import CentredLogMel, KaldiLogMel
from anyformer.models.audio.hear import SoundEmbedding


def small(**options):
    torch.manual_seed(0)
    return create_model("passt_micro", depth=1, **options)


def lengths(model) -> list[int]:
    """Tokens that the blocks see, in training."""
    seen = []
    model.blocks.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    model.train()(torch.randn(2, 1, 64, 48))
    return seen


def test_patchout_leaves_out_whole_times_and_bands_and_single_patches():
    rows, columns = small().grid
    for t, f, u in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (3, 4, 0), (2, 1, 5)):
        assert lengths(small(times=t, bands=f, patches=u)) == [(columns - t) * (rows - f) - u + 2]


def test_structured_patchout_keeps_a_grid_of_rows_and_columns():
    model = small(times=3, bands=4)
    rows, columns = model.grid
    kept = model.kept(model.grid, torch.device("cpu"))
    times, bands = set((kept % columns).tolist()), set((kept // columns).tolist())
    assert len(times) == columns - 3 and len(bands) == rows - 4
    assert len(kept) == len(times) * len(bands) and kept.tolist() == sorted(kept.tolist())


def test_what_stays_keeps_its_position():
    model = small(times=2, bands=1, patches=3).train()
    given = []
    model.blocks.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    x = torch.randn(1, 1, 64, 48)
    torch.manual_seed(1)
    model(x)
    torch.manual_seed(1)
    kept = model.kept(model.grid, x.device)
    whole, _ = model.eval().embedded(x)
    torch.testing.assert_close(given[0][:, 2:], whole[:, 2:][:, kept])
    torch.testing.assert_close(given[0][:, :2], whole[:, :2])


def test_leaving_out_nothing_changes_nothing():
    x = torch.randn(2, 1, 64, 48)
    plain, with_patchout = small(), small(times=3, bands=4, patches=2).eval()
    torch.testing.assert_close(plain.train()(x), with_patchout(x))


def test_half_the_patches_cost_at_most_half():
    blocks = small().blocks
    (whole,), (half,) = lengths(small()), lengths(small(times=3, bands=2))
    cost = [count_operations(blocks, torch.zeros(1, n, 64)) for n in (whole, half)]
    assert half <= 0.5 * whole and cost[1] <= 0.5 * cost[0]


def test_patchout_that_leaves_no_patch_is_refused():
    with pytest.raises(OptionError, match=r"one has to stay; given times=7, bands=0, patches=0"):
        small(times=7)
    with pytest.raises(OptionError, match="patches=-1"):
        small(patches=-1)


def test_shorter_clips_take_the_first_times_and_in_training_any():
    position = TimeFrequencyPosition(4, grid=(3, 9), prefix=2)
    zeros = torch.zeros(1, 3, 5, 4)
    sums = position.frequency[:, None] + position.time
    torch.testing.assert_close(position.eval()(zeros)[0], sums[:, :5])
    flat = position(torch.zeros(1, 17, 4), grid=(3, 5))[0]
    torch.testing.assert_close(flat[2:].view(3, 5, 4), sums[:, :5])
    torch.testing.assert_close(flat[:2], position.front)
    starts = set()
    for _ in range(50):
        found = position.train()(zeros)[0]
        starts.add(next(s for s in range(5) if torch.allclose(found, sums[:, s : s + 5])))
    assert starts == {0, 1, 2, 3, 4}


def test_a_clip_longer_than_the_table_is_refused():
    model = small().eval()
    assert model(torch.randn(1, 1, 64, 30)).shape == (1, 8)
    with pytest.raises(SizeError, match=r"up to 7 columns of patches; this one has 10 and 8: cut longer clips"):
        model(torch.randn(1, 1, 64, 54))
    with pytest.raises(SizeError, match="10 rows"):
        model(torch.randn(1, 1, 70, 48))


def heard(**options) -> SoundEmbedding:
    return SoundEmbedding(small(image_size=(64, 48)), KaldiLogMel(64), **options)


def test_time_stamps_are_a_hop_apart_and_as_many_as_fit():
    found, times = heard().timestamps(torch.randn(2, 16000), 16000)
    assert times[0] == 0 and torch.allclose(times.diff(), torch.tensor(50.0))
    assert found.shape == (2, 1000 // 50 + 1, 64 + 8) and len(times) == 21


def test_a_series_tells_where_a_sound_is():
    wave = torch.zeros(1, 16000)
    wave[:, 8000:10000] = torch.randn(2000)
    found, times = heard(levels=("mel",), window=0.05).timestamps(wave, 16000)
    loudest = float(times[found[0].mean(1).argmax()])
    assert 500 <= loudest <= 625


def test_levels_stand_side_by_side_and_long_clips_are_the_mean_of_windows():
    wave = torch.randn(1, 8000)
    one = heard(levels=("mel", "penultimate", "logits"))
    found = one.scene(wave, 16000)
    images = one.spectrogram(wave)[:, None]
    expected = torch.cat([images.mean((1, 3)), one.model.eval().penultimate(images), one.model(images)], -1)
    torch.testing.assert_close(found, expected)
    assert 8000 <= one.longest < 9000
    long = torch.randn(1, 20000)
    windows, _ = one.series(long, one.longest, one.scene_hop)
    torch.testing.assert_close(one.scene(long, 16000), windows.mean(1))


def test_wrong_rates_levels_and_shapes_are_refused():
    with pytest.raises(OptionError, match=r"hears 16000 samples a second; given rate=32000"):
        heard().scene(torch.randn(1, 8000), 32000)
    with pytest.raises(SizeError, match=r"\(batch, samples\)"):
        heard().scene(torch.randn(8000), 16000)
    with pytest.raises(OptionError, match=r"mel, penultimate, logits; given hidden"):
        heard(levels=("hidden",))
    with pytest.raises(SizeError, match="need more than 1280"):
        heard().timestamps(torch.randn(1, 1000), 16000)


def test_passt_hears_what_its_authors_fed_it():
    spectrogram = CentredLogMel(
        128, rate=32000, window=800, hop=320, fft=1024, low=0, high=15000, mean=-4.5, deviation=5
    )
    assert spectrogram(torch.randn(1, 320000)).shape == (1, 128, 1000)
    with torch.device("meta"):
        model = create_model("passt_s_p16")
    assert SoundEmbedding(model, spectrogram).longest >= 10 * 32000


@pytest.mark.parametrize(
    ("name", "parameters", "grid"),
    [
        # The golden's body of 86,187,264, and a norm and a linear layer for 527 classes.
        ("official:ast_base384", 86187264 + 2 * 768 + 769 * 527, (12, 101)),
        # With fewer positions.
        ("transformers:MIT/ast-finetuned-audioset-16-16-0.442", 86187264 - 700 * 768 + 2 * 768 + 769 * 527, (8, 64)),
        ("official:passt_l_kd_p16_128_ap47", None, (12, 99)),
        ("official:passt_s_swa_p16_s12_128_ap473", None, (10, 82)),
        ("official:passt_s_f128_30sec_p16_s10_ap473", None, (12, 299)),
    ],
)
def test_names_of_every_source(name: str, parameters: int | None, grid: tuple[int, int]):
    with torch.device("meta"):
        model = create_model(name)
    assert model.grid == grid
    assert parameters is None or model.num_parameters() == parameters
