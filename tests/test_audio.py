"""The task "audio": spectrograms, made sounds, folders of files, and that a short training beats guessing."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError, SizeError
from anyformer.data.audio import KINDS, RATE, fitted, read_sound, sounds
from anyformer.lab.train import TrainConfig, train
from anyformer.layers.spectral.mel import CentredLogMel, KaldiLogMel, mel, mel_filters
from anyformer.tasks import create_task


def tone(hertz: float, samples: int = 8000, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def folder(root, *, rate: int = RATE, count: int = 8):
    """Low and high tones in a folder each."""
    for name, base in (("low", 200), ("high", 2000)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            soundfile.write(root / name / f"{i}.wav", tone(base + 10 * i, rate=rate), rate)
    return root


@pytest.mark.parametrize("make", [KaldiLogMel, CentredLogMel])
@pytest.mark.parametrize("hertz", [300.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_the_band_that_holds_it(make, hertz: float):
    spectrogram = make(64)
    found = spectrogram(torch.from_numpy(tone(hertz)).float()[None])[0]
    assert found.shape == (64, spectrogram.frames(8000))
    edges = torch.linspace(float(mel(torch.tensor(20.0))), float(mel(torch.tensor(8000.0))), 66)
    band = int((edges[1:-1] - mel(torch.tensor(hertz))).abs().argmin())
    assert set(found.argmax(0).tolist()) <= {band - 1, band, band + 1}


def test_twice_the_amplitude_is_four_times_the_energy():
    wave = torch.from_numpy(tone(1000)).float()[None]
    spectrogram = KaldiLogMel(32)
    difference = (spectrogram(2 * wave) - spectrogram(wave)).amax(1)
    torch.testing.assert_close(difference.amax(), torch.tensor(4.0).log(), rtol=1e-3, atol=1e-3)
    assert KaldiLogMel(32)(torch.zeros(1, 400)).isfinite().all()


def test_neighbouring_triangles_sum_to_one_between_their_tops():
    filters = mel_filters(20, 1024, 16000, 100, 7000)
    tops = filters.argmax(1)
    inside = filters[:, int(tops[0]) + 1 : int(tops[-1])]
    torch.testing.assert_close(inside.sum(0), torch.ones(inside.shape[1]), rtol=1e-4, atol=1e-4)
    with pytest.raises(OptionError, match=r"0 and 8000 Hz, half the rate; given 20 to 9000"):
        mel_filters(20, 512, 16000, 20, 9000)


@pytest.mark.parametrize(("make", "least"), [(KaldiLogMel, 400), (CentredLogMel, 258)])
def test_a_sound_without_a_frame_is_refused(make, least: int):
    assert make(16)(torch.randn(1, least)).isfinite().all()
    with pytest.raises(SizeError, match="holds no frame"):
        make(16)(torch.randn(1, least - 1))


def test_made_sounds_are_balanced_and_the_same_every_time():
    parts = sounds(0.25, 3)
    waves, labels = parts["valid"]
    assert torch.bincount(labels).tolist() == [40] * len(KINDS)
    assert waves.shape == (320, 4000) and waves.abs().max() <= 1
    sounds.cache_clear()
    assert torch.equal(sounds(0.25, 3)["valid"][0], waves)
    assert not torch.equal(sounds(0.25, 4)["valid"][0], waves)


def test_files_are_read_and_wrong_ones_are_named(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(300), -tone(300)], 1), RATE)
    assert read_sound(path, RATE).abs().max() < 1e-3
    with pytest.raises(DataError, match=r"stereo.wav has 16000 samples a second, and 8000 are asked for.*rate=16000"):
        read_sound(path, 8000)
    with pytest.raises(DataError, match="there is no sound"):
        read_sound(tmp_path / "none.wav", RATE)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"text\.wav cannot be read"):
        read_sound(tmp_path / "text.wav", RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(DataError, match=r"empty\.wav is empty"):
        read_sound(tmp_path / "empty.wav", RATE)
    assert fitted(torch.ones(3), 5).tolist() == [1, 1, 1, 0, 0] and fitted(torch.ones(3), 2).tolist() == [1, 1]


def test_a_folder_of_sounds_is_a_task(tmp_path):
    task = create_task(f"audio:{folder(tmp_path / 'tones')}", seconds=0.25, mels=32)
    assert task.classes == ("high", "low") and [task.size(s) for s in ("train", "valid", "test")] == [12, 2, 2]
    model = create_model("ast_micro", **task.model_options()).eval()
    (answer,) = task.predict(model, [tmp_path / "tones" / "low" / "0.wav"])
    assert answer["label"] in task.classes
    (again,) = task.predict(model, [torch.from_numpy(tone(200)).float()])
    # Files hold 16 bits a sample.
    assert again["probability"] == pytest.approx(answer["probability"], abs=2e-2)
    assert task.evaluate(model, "test")["accuracy"] in (0.0, 0.5, 1.0)
    assert task.baseline().margin == 0


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"0.wav has 8000 samples a second, and 16000"):
        create_task("audio", path=folder(tmp_path / "slow", rate=8000))
    (tmp_path / "bare" / "a").mkdir(parents=True)
    (tmp_path / "bare" / "b").mkdir()
    with pytest.raises(DataError, match=r"holds no sounds \(\.wav"):
        create_task("audio", path=tmp_path / "bare")
    with pytest.raises(OptionError, match=r"0\.1 to 30 seconds; given seconds=0"):
        create_task("audio", seconds=0)
    with pytest.raises(OptionError, match="given rate=8000 without a path"):
        create_task("audio", rate=8000)


def test_a_short_training_beats_the_most_frequent_class():
    task = create_task("audio", seconds=0.2, mels=32)
    torch.manual_seed(0)
    model = create_model(task.default_model, **task.model_options())
    result = train(model, task, TrainConfig(budget="60steps", evaluations=1, device="cpu"), progress=False)
    assert result.metrics["accuracy"] > task.baseline().value + 0.15
    pictures = task.pictures(result.model, n=3)
    assert [p.caption.split(", ")[0] for p in pictures] == list(KINDS)[:3]
    assert pictures[0].pixels.shape == (*task.shape[1:], 3)
    assert task.examples("test", 2)[1]["truth"] == "harmonics"
