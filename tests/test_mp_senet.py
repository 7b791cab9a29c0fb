"""MP-SENet and the task "enhancement": spectra and back, phases, masks, gradients, files, misuse, a short training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from anyformer import create_model
from anyformer.core.errors import AnyformerError, DataError, OptionError, SizeError
from anyformer.data.audio import voices
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.recurrence.gru import BidirectionalGRU
from anyformer.layers.spectral.stft import MagnitudePhase
from anyformer.models.audio.mp_senet import DilatedDense, anti_wrap, phase_loss
from anyformer.tasks import create_task
from anyformer.tasks.enhancement import si_sdr, stoi


def small(**options):
    torch.manual_seed(0)
    return create_model("mp_senet_micro", **options).eval()


def test_full_turns_are_no_error_and_none_is_more_than_half_a_turn():
    x = torch.linspace(-3, 3, 101)
    for turns in (-3, -1, 1, 5):
        torch.testing.assert_close(anti_wrap(x + 2 * math.pi * turns), x.abs(), rtol=1e-5, atol=1e-5)
    assert anti_wrap(100 * torch.randn(1000)).max() <= math.pi + 1e-4
    phase, other = (6 * torch.rand(2, 9, 7) - 3 for _ in range(2))
    turned = phase + 2 * math.pi * torch.randint(-2, 3, phase.shape)
    torch.testing.assert_close(phase_loss(turned, other), phase_loss(phase, other), rtol=1e-4, atol=1e-5)
    assert phase_loss(phase, turned) < 1e-5 < phase_loss(phase, other)


@pytest.mark.parametrize("samples", [400, 1000, 3217])
def test_magnitudes_and_phases_make_the_wave_again(samples: int):
    torch.manual_seed(0)
    waves = torch.randn(2, samples)
    spectra = MagnitudePhase()
    magnitude, phase = spectra(waves)
    assert magnitude.shape == phase.shape == (2, 201, samples // 100 + 1)
    torch.testing.assert_close(spectra.inverse(magnitude, phase, samples), waves, rtol=1e-4, atol=1e-4)
    plain = MagnitudePhase(power=1.0)(waves)[0]
    torch.testing.assert_close(magnitude ** (1 / 0.3), plain, rtol=1e-3, atol=1e-4)


def test_the_transform_is_torchs():
    waves = torch.randn(2, 900)
    expected = torch.stft(waves, 128, 32, window=torch.hann_window(128), return_complex=True)
    magnitude, phase = MagnitudePhase(128, 32, 1.0)(waves)
    torch.testing.assert_close(torch.polar(magnitude, phase), expected, rtol=1e-3, atol=1e-3)


def test_phases_are_within_a_turn_and_masks_within_their_limit():
    model = small()
    magnitude, phase = model.spectra(torch.randn(2, 700))
    found, turned = model.estimate(magnitude, phase)
    assert turned.min() > -math.pi - 1e-6 and turned.max() <= math.pi + 1e-6
    mask = found / magnitude
    assert mask.min() >= 0 and mask.max() <= model.beta + 1e-5
    nn.init.zeros_(model.slope)  # sigmoid(0) is a half of beta = 2
    torch.testing.assert_close(model.estimate(magnitude, phase)[0], magnitude)


def test_louder_in_is_louder_out_and_any_length_works():
    model = small()
    waves = torch.randn(1, 1001)
    # A power of two, so that no phase near half a turn is rounded to the other side.
    torch.testing.assert_close(model(4 * waves), 4 * model(waves), rtol=1e-3, atol=1e-3)
    for samples in (128, 129, 500, 4001):
        assert model(torch.randn(1, samples)).shape == (1, samples)
    assert model(torch.zeros(1, 500)).isfinite().all()


def test_maps_of_nothing_keep_the_noisy_phase_where_phases_are_turned_from_it():
    for turn_from in ("noisy", "zero"):
        model = small(turn_from=turn_from)
        for parameter in model.phase.last.parameters():
            nn.init.zeros_(parameter)
        magnitude, phase = model.spectra(torch.randn(1, 900))
        expected = phase if turn_from == "noisy" else torch.zeros_like(phase)
        assert anti_wrap(model.estimate(magnitude, phase)[1] - expected).max() < 1e-4


def test_dense_convolutions_see_no_later_frame():
    torch.manual_seed(0)
    dense = DilatedDense(4, 3)
    for layer in dense.layers:
        layer[2] = nn.Identity()  # the norm sees the whole map
    x = torch.randn(1, 4, 12, 5)
    changed = x.clone()
    changed[:, :, 7:] = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(dense(x)[:, :, :7], dense(changed)[:, :, :7])
    assert not torch.allclose(dense(x)[:, :, 7], dense(changed)[:, :, 7])


def test_the_recurrent_unit_is_torchs():
    ours, theirs = BidirectionalGRU(5, 7), nn.GRU(5, 7, batch_first=True, bidirectional=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 11, 5)
    torch.testing.assert_close(ours(x), theirs(x)[0])


def test_the_loss_is_least_for_the_truth():
    model = small()
    clean = torch.randn(2, 1500)
    noisy = clean + torch.randn(2, 1500)
    value = model.objective(noisy, clean)
    value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    class Knows(type(model)):
        def estimate(self, magnitude, phase):
            return self.truth

    knowing = Knows(**model.built_from.options)
    knowing.truth = knowing.spectra(clean * knowing.level(noisy))
    assert knowing.objective(noisy, clean) < 1e-4 < value


def test_si_sdr_does_not_hear_loudness_and_is_the_noise_level():
    torch.manual_seed(0)
    clean = torch.randn(2, 50000)
    noise = torch.randn(2, 50000) * 10 ** (-0.5)
    torch.testing.assert_close(si_sdr(clean + noise, clean), torch.full((2,), 10.0), rtol=0, atol=0.1)
    torch.testing.assert_close(si_sdr(5 * (clean + noise), clean), si_sdr(clean + noise, clean), rtol=1e-4, atol=1e-3)


def test_what_is_too_short_or_does_not_fit_is_refused():
    with pytest.raises(SizeError, match=r"at least 128 samples, one frame; given \(1, 127\)"):
        small()(torch.randn(1, 127))
    with pytest.raises(ValueError, match="one frame"):
        small()(torch.randn(1, 3))
    with pytest.raises(OptionError, match="multiple of 4; given 130: take 128"):
        small(fft=130)
    with pytest.raises(OptionError, match="hop is 1 to 64 for fft=128; given 65"):
        small(hop=65)
    with pytest.raises(OptionError, match="given rate=16000 without a path"):
        create_task("enhancement", rate=16000)
    with pytest.raises(OptionError, match=r"given seconds=0\.5"):
        create_task("enhancement", seconds=0.5)


def test_samples_depend_on_their_arguments_alone():
    task = create_task("enhancement", samples=300)
    whole = task.sample("train", torch.arange(6), seed=3, train=True)
    one = task.sample("train", torch.tensor([4]), seed=3, train=True)
    assert torch.equal(one["noisy"][0], whole["noisy"][4]) and whole["clean"].shape == (6, 1536)
    other = task.sample("train", torch.arange(6), seed=4, train=True)
    assert not torch.equal(other["clean"], whole["clean"])
    assert task.sample("test", torch.arange(2))["noisy"].shape == (2, 12000)


def test_made_voices_are_intelligible_without_their_noise():
    noisy, clean = (waves[:6] for waves in voices()["valid"])
    assert stoi(clean, clean, 8000) == pytest.approx(1.0, abs=1e-4)
    assert stoi(noisy, clean, 8000) < 0.95
    assert si_sdr(noisy, clean).min() > -5.5 and si_sdr(noisy, clean).max() < 10.5


def pairs(root, count: int = 7, rate: int = 8000):
    generator = np.random.default_rng(0)
    for kind in ("noisy", "clean"):
        (root / kind).mkdir(parents=True)
        for i in range(count):
            soundfile.write(root / kind / f"{i}.wav", 0.1 * generator.standard_normal(9000), rate)
    return root


def test_a_folder_of_pairs_is_a_task(tmp_path):
    root = pairs(tmp_path / "set")
    task = create_task(f"enhancement:{root}", seconds=1.0, samples=8)
    assert [len(task.parts[s][0]) for s in ("train", "valid", "test")] == [5, 1, 1] and task.baseline().margin == 0
    (answer,) = task.predict(small(), [root / "noisy" / "0.wav"])
    assert len(answer["samples"]) == 9000 and answer["rate"] == 8000
    with pytest.raises(DataError, match=r"0.wav has 8000 samples a second, and 16000 are asked for"):
        create_task("enhancement", path=root, rate=16000)
    (root / "clean" / "3.wav").unlink()
    with pytest.raises(DataError, match=r"3.wav has no partner"):
        create_task("enhancement", path=root)
    with pytest.raises(DataError, match="there is no folder"):
        create_task("enhancement", path=tmp_path)
    with pytest.raises(DataError, match="holds 2 pairs"):
        create_task("enhancement", path=pairs(tmp_path / "two", count=2))


def test_a_model_of_images_is_refused():
    task = create_task("enhancement", samples=8)
    with pytest.raises(AnyformerError, match="gives waves for waves"):
        task.loss(nn.Linear(1536, 3), task.sample("train", torch.arange(2)))


def test_a_short_training_takes_noise_away():
    task = create_task("enhancement", samples=128, piece=0.128)
    model = small(**task.model_options())
    config = TrainConfig(budget="25steps", batch_size=16, learning_rate=3e-3, evaluations=1, device="cpu")
    result = train(model, task, config, progress=False)
    assert result.metrics["si_sdr"] > task.baseline().value + 0.5
    (picture,) = task.pictures(result.model, n=1)
    assert picture.caption.startswith("noisy (") and picture.pixels.shape[2] == 3
    assert set(task.evaluate(result.model)) == {"si_sdr", "stoi", "loss"}
