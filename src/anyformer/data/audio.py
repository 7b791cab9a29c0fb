"""Sounds: made ones of eight kinds, and files (WAV, FLAC, OGG) in a folder per class or in pairs of noisy and clean."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anyformer.core.errors import DataError, require
from anyformer.data.splits import SPLITS

RATE = 16000
"""Samples a second of made sounds."""

SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif")

Draw = np.random.RandomState
Wave = Float[np.ndarray, "samples"]


def clock(samples: int) -> Wave:
    """The time of each sample in seconds."""
    return np.arange(samples) / RATE


def pitch(draw: Draw) -> float:
    """A frequency between 150 and 1,200 Hz, all octaves alike."""
    return float(150 * 2 ** draw.uniform(0, 3))


def tone(draw: Draw, samples: int) -> Wave:
    """A sine."""
    return np.sin(2 * np.pi * (pitch(draw) * clock(samples) + draw.uniform()))


def harmonics(draw: Draw, samples: int) -> Wave:
    """A sum of six to ten harmonics, weaker the higher they are."""
    base, count = pitch(draw), draw.randint(6, 11)
    numbers = np.arange(1, count + 1)[:, None]
    waves = np.sin(2 * np.pi * (numbers * base * clock(samples) + draw.uniform(size=(count, 1))))
    return (waves / numbers ** draw.uniform(0.3, 1.0)).sum(0)


def sweep(draw: Draw, samples: int, octaves: float) -> Wave:
    """A sine whose frequency moves by so many octaves."""
    start = pitch(draw) * (2 if octaves < 0 else 1)
    rate = octaves * np.log(2) / (samples / RATE)
    return np.sin(2 * np.pi * start * np.expm1(rate * clock(samples)) / rate)


def rising(draw: Draw, samples: int) -> Wave:
    """A chirp upwards, by half an octave to two."""
    return sweep(draw, samples, draw.uniform(0.5, 2))


def falling(draw: Draw, samples: int) -> Wave:
    """A chirp downwards, by half an octave to two."""
    return sweep(draw, samples, -draw.uniform(0.5, 2))


def burst(draw: Draw, samples: int) -> Wave:
    """White noise that lasts 50 to 200 ms, with soft edges."""
    length = int(RATE * draw.uniform(0.05, 0.2))
    begin = draw.randint(0, samples - length)
    wave = np.zeros(samples)
    wave[begin : begin + length] = draw.standard_normal(length) * np.hanning(length)
    return wave


def pluck(draw: Draw, samples: int) -> Wave:
    """A plucked string: noise that circles in a delay line and loses its high tones (Karplus and Strong 1983)."""
    period = round(RATE / pitch(draw))
    line = draw.uniform(-1, 1, period)
    rounds = []
    for _ in range(-(-samples // period)):
        rounds.append(line)
        line = 0.498 * (line + np.roll(line, 1))
    return np.concatenate(rounds)[:samples]


def tremolo(draw: Draw, samples: int) -> Wave:
    """A sine that swells and fades 8 to 20 times a second."""
    swell = 1 + np.cos(2 * np.pi * (draw.uniform(8, 20) * clock(samples) + draw.uniform()))
    return tone(draw, samples) * swell


def clicks(draw: Draw, samples: int) -> Wave:
    """A train of 10 to 40 clicks a second."""
    wave = np.zeros(samples)
    apart = int(RATE / draw.uniform(10, 40))
    wave[draw.randint(0, apart) :: apart] = 1
    return np.convolve(wave, draw.standard_normal(32) * np.exp(-np.arange(32) / 6.0))[:samples]


KINDS: dict[str, Callable[[Draw, int], Wave]] = {
    "tone": tone,
    "harmonics": harmonics,
    "rising chirp": rising,
    "falling chirp": falling,
    "noise burst": burst,
    "plucked string": pluck,
    "tremolo": tremolo,
    "clicks": clicks,
}
SIZES = {"train": 2048, "valid": 320, "test": 512}


@cache
def sounds(seconds: float = 0.5, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Part to (waves `(n, samples)` float32 at 16 kHz, labels `(n,)`): eight kinds, equally many of each.

    Pitch, level (-24 to 0 dB) and white background noise (0 to 20 dB below the sound) are drawn for every sample.
    Parts: 2,048, 320 and 512 sounds.
    """
    parts = {}
    for number, split in enumerate(SPLITS):
        draw = np.random.RandomState([seed, number])  # RandomState's streams never change
        labels = np.arange(SIZES[split]) % len(KINDS)
        waves = [mixed(draw, make(draw, int(seconds * RATE))) for make in [list(KINDS.values())[k] for k in labels]]
        parts[split] = (torch.from_numpy(np.stack(waves)).float(), torch.from_numpy(labels))
    return parts


def mixed(draw: Draw, wave: Wave) -> Wave:
    """The wave in white noise, at a random level, its peak at most 1."""
    noise = draw.standard_normal(len(wave)) * np.sqrt(np.mean(wave**2)) * 10 ** (-draw.uniform(0, 20) / 20)
    both = wave + noise
    return both / np.abs(both).max() * 10 ** (-draw.uniform(0, 24) / 20)


def read_sound(path: Path, rate: int) -> Float[Tensor, "samples"]:
    """The samples of a sound file, float32 in [-1, 1], channels averaged.

    Raises `DataError` naming the file where it is missing, cannot be read, is empty, holds NaN, or has another rate.
    """
    soundfile = require("soundfile", "audio")
    if not path.is_file():
        raise DataError(f"there is no sound {path}.")
    try:
        samples, found = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DataError(f"the sound {path} cannot be read ({error}): repair or remove it.") from error
    if found != rate:
        raise DataError(
            f"the sound {path} has {found} samples a second, and {rate} are asked for: convert it, or pass "
            f"rate={found}."
        )
    if samples.size == 0 or not np.isfinite(samples).all():
        raise DataError(f"the sound {path} is empty or holds NaN: repair or remove it.")
    return torch.from_numpy(samples.mean(1))


def fitted(wave: Float[Tensor, "n"], samples: int) -> Float[Tensor, "samples"]:
    """The first `samples` of a wave; a shorter one ends in silence."""
    return torch.nn.functional.pad(wave[:samples], (0, max(0, samples - len(wave))))


VOICE_RATE = 8000
"""Samples a second of made voices."""

STEP = 64
"""Samples from one value of a voice's slow curves to the next."""


def curve(draw: Draw, count: int, low: float, high: float, knots: int) -> Wave:
    """`count` values that move on straight lines between `knots` random ones."""
    return np.interp(np.linspace(0, knots - 1, count), np.arange(knots), draw.uniform(low, high, knots))


def voice(draw: Draw, samples: int, rate: int = VOICE_RATE) -> Wave:
    """A speech-like sound: harmonics of a gliding pitch, three moving formants, syllables with pauses between them.

    Its largest sample is 1.
    """
    frames = samples // STEP + 2
    seconds = samples / rate
    knots = max(2, round(4 * seconds) + 1)
    base = draw.uniform(90, 220)
    tune = base * 2 ** curve(draw, frames, -0.25, 0.25, knots)
    numbers = np.arange(1, int(0.5 * rate / (base * 1.2)))[:, None]
    levels = np.zeros((len(numbers), frames))
    for low, high, width, strength in ((300, 900, 90, 1.0), (900, 2200, 130, 0.6), (2200, 3300, 180, 0.3)):
        middle = curve(draw, frames, low, high, knots)
        levels += strength * np.exp(-0.5 * ((numbers * tune - middle) / width) ** 2)
    levels[numbers * tune >= rate / 2] = 0
    beats = 2 * (draw.uniform(2, 4) * np.arange(frames) * STEP / rate + draw.uniform())
    syllables = np.clip(np.sin(np.pi * beats) + 0.4, 0, 1)
    ticks, at = np.arange(frames) * STEP, np.arange(samples)
    turns = np.cumsum(np.interp(at, ticks, tune)) / rate
    wave = np.zeros(samples)
    for number, level in zip(numbers[:, 0], levels * syllables, strict=True):
        wave += np.interp(at, ticks, level) * np.sin(2 * np.pi * (number * turns + draw.uniform()))
    return wave / max(float(np.abs(wave).max()), 1e-9)


def noise(draw: Draw, samples: int) -> Wave:
    """White noise through a random filter of eight taps: a steady background with a colour of its own."""
    return np.convolve(draw.standard_normal(samples + 7), draw.standard_normal(8) * 0.7 ** np.arange(8), "valid")


VOICES = {"train": 256, "valid": 32, "test": 48}


@cache
def voices(samples: int = 12000, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Part to (noisy, clean) waves `(n, samples)` float32 at 8 kHz: speech-like sounds in noise of -5 to 10 dB.

    Parts: 256, 32 and 48 pairs.
    """
    parts = {}
    for number, split in enumerate(SPLITS):
        draw = np.random.RandomState([seed, 7, number])
        pairs = [in_noise(draw, voice(draw, samples)) for _ in range(VOICES[split])]
        noisy, clean = (torch.from_numpy(np.stack(waves)).float() for waves in zip(*pairs, strict=True))
        parts[split] = (noisy, clean)
    return parts


def in_noise(draw: Draw, clean: Wave) -> tuple[Wave, Wave]:
    """A wave with noise 5 dB above it to 10 dB below, and without."""
    added = noise(draw, len(clean))
    decibels = draw.uniform(-5, 10)
    added *= np.sqrt(np.mean(clean**2) / np.mean(added**2)) * 10 ** (-decibels / 20)
    return clean + added, clean


def read_pairs(root: Path, rate: int, samples: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of files of one name, `root/noisy/NAME` and `root/clean/NAME`, dealt out to three parts by `seed`.

    Every part is (noisy, clean) waves `(n, samples)`; see `fitted`.

    Raises `DataError` for a missing folder, a file without its partner, partners of different length, or fewer than
    three pairs; and what `read_sound` raises.
    """
    folders = {kind: root / kind for kind in ("noisy", "clean")}
    for kind, folder in folders.items():
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}: give a folder with noisy and clean in it (no {kind} here).")
    names = {
        kind: {p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES} for kind, folder in folders.items()
    }
    for kind, other in (("noisy", "clean"), ("clean", "noisy")):
        lonely = sorted(names[kind] - names[other])
        if lonely:
            raise DataError(f"{folders[kind] / lonely[0]} has no partner of its name in {folders[other]}.")
    shared = sorted(names["noisy"])
    if len(shared) < 3:
        raise DataError(f"{root} holds {len(shared)} pairs of sounds; three or more are needed, one for each part.")
    pairs = []
    for name in shared:
        noisy, clean = (read_sound(folders[kind] / name, rate) for kind in ("noisy", "clean"))
        if len(noisy) != len(clean):
            raise DataError(f"{name} has {len(noisy)} samples in noisy and {len(clean)} in clean: cut them alike.")
        pairs.append((fitted(noisy, samples), fitted(clean, samples)))
    order = np.random.RandomState(seed).permutation(len(pairs))
    held = max(1, round(0.15 * len(pairs)))
    rows = {"valid": order[:held], "test": order[held : 2 * held], "train": order[2 * held :]}
    return {
        split: (torch.stack([pairs[i][0] for i in rows[split]]), torch.stack([pairs[i][1] for i in rows[split]]))
        for split in SPLITS
    }
