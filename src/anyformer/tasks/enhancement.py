"""Speech enhancement: the voice out of a noisy recording, from wave to wave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.core.errors import DataError, OptionError, require
from anyformer.data import audio as files
from anyformer.data.pictures import Picture, Pixels, beside, gray
from anyformer.data.seeds import sample_seeds, uniform
from anyformer.data.splits import SPLITS
from anyformer.layers.spectral.stft import MagnitudePhase
from anyformer.tasks.task import Baseline, Batch, Task, measuring


def si_sdr(estimate: Float[Tensor, "b n"], truth: Float[Tensor, "b n"]) -> Float[Tensor, "b"]:
    """Scale-invariant signal-to-distortion ratio in dB. Le Roux et al. 2018, arXiv:1811.02508, equation 5."""
    estimate, truth = estimate - estimate.mean(1, keepdim=True), truth - truth.mean(1, keepdim=True)
    part = (estimate * truth).sum(1, keepdim=True) / truth.square().sum(1, keepdim=True).clamp(min=1e-12) * truth
    rest = (estimate - part).square().sum(1)
    return 10 * torch.log10(part.square().sum(1).clamp(min=1e-12) / rest.clamp(min=1e-12))


def stoi(estimate: Float[Tensor, "b n"], truth: Float[Tensor, "b n"], rate: int) -> float:
    """Short-time objective intelligibility, the mean over sounds: 0 to 1. Taal et al. 2011, through pystoi."""
    measure = require("pystoi", "audio").stoi
    pairs = zip(truth.numpy(), estimate.numpy(), strict=True)
    return sum(float(measure(a, b, rate)) for a, b in pairs) / len(truth)


class Enhancement(Task):
    """A clean voice from a noisy one. Metric: SI-SDR in dB; STOI beside it, both means over sounds.

    Loss: the model's own `objective(noisy, clean)` where it has one, else the mean absolute difference of the waves.

    Args:
        path: a folder with `noisy/NAME` and `clean/NAME`. None: made voices in noise; see `data.audio.voices`.
        rate: samples a second; a file of another rate is an error.
        seconds: of the sounds to choose by and to test; longer files are cut.
        piece: seconds that are cut out, at a random place, for training.
        samples: pieces of an epoch of training.
        seed: of the dealing out, and of the made voices.

    Raises:
        OptionError: sounds too short for STOI, pieces longer than sounds.
        DataError: what `data.audio.read_pairs` raises.
    """

    name = "enhancement"
    metric = "si_sdr"
    higher_is_better = True
    default_model = "mp_senet_micro"

    def __init__(
        self,
        path: str | Path | None = None,
        rate: int = files.VOICE_RATE,
        seconds: float = 1.5,
        piece: float = 0.192,
        samples: int = 512,
        seed: int = 0,
    ):
        if path is None and rate != files.VOICE_RATE:
            raise OptionError(
                f"made voices have {files.VOICE_RATE} samples a second; given rate={rate} without a path."
            )
        if seconds < 0.8 or not 0.032 <= piece <= seconds or samples < 1:
            raise OptionError(
                "sounds last 0.8 seconds or more, which STOI needs, pieces 0.032 to that many, and an epoch has one or "
                f"more; given seconds={seconds}, piece={piece}, samples={samples}."
            )
        self.rate, self.long, self.piece, self.samples = rate, round(seconds * rate), round(piece * rate), samples
        self.made = path is None
        self.parts = (
            files.voices(self.long, seed) if path is None else files.read_pairs(Path(path), rate, self.long, seed)
        )

    def model_options(self) -> dict[str, Any]:
        return {"samples": self.piece}

    def size(self, split: str) -> int:
        return self.samples if self.check_split(split) == "train" else len(self.parts[split][0])

    def sample(self, split: str, indices: Tensor, *, seed: int = 0, train: bool = False) -> Batch:
        """ "noisy" and "clean" `(b, samples)`; pieces of the training part, at other places in every epoch."""
        noisy, clean = self.parts[self.check_split(split)]
        if split != "train":
            return {"noisy": noisy[indices], "clean": clean[indices]}
        places = (uniform(sample_seeds(seed, indices), 0) * (self.long - self.piece + 1)).long().tolist()
        rows = (indices % len(noisy)).tolist()
        return {
            name: torch.stack([waves[i, at : at + self.piece] for i, at in zip(rows, places, strict=True)])
            for name, waves in (("noisy", noisy), ("clean", clean))
        }

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        if label_smoothing:
            raise OptionError("label_smoothing is for classes; enhancement has none: set it to 0.")
        objective = getattr(model, "objective", None)
        if objective is not None:
            return objective(batch["noisy"], batch["clean"])
        return F.l1_loss(enhance(model, batch["noisy"]), batch["clean"])

    def count(self, batch: Batch) -> int:
        return len(batch["clean"])

    def evaluate(self, model: nn.Module, split: str = "valid", *, batch_size: int = 256) -> dict[str, Any]:
        """Means over sounds: "si_sdr" in dB and "stoi"; and the loss."""
        found, loss = [], 0.0
        with measuring(model) as device:
            for _, batch in self.batches(split, min(batch_size, 16), device):
                loss += float(self.loss(model, batch)) * self.count(batch)
                found.append((enhance(model, batch["noisy"]).float().cpu(), batch["clean"].cpu()))
        estimate, clean = (torch.cat(waves) for waves in zip(*found, strict=True))
        measured = {"si_sdr": float(si_sdr(estimate, clean).mean()), "loss": loss / len(clean)}
        return measured if split == "train" else {**measured, "stoi": stoi(estimate, clean, self.rate)}

    def baseline(self, split: str = "valid") -> Baseline:
        """The noisy sound as it is."""
        batch = self.sample(split, torch.arange(self.size(split)))
        value = float(si_sdr(batch["noisy"], batch["clean"]).mean())
        return Baseline("the noisy sound", value, 3.0 if self.made else 0.0)

    def predict(self, model: nn.Module, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What the model makes of noisy sounds, paths of files or waves `(samples,)`: "samples" and their "rate"."""
        answers = []
        with measuring(model) as device:
            for given in inputs:
                wave = given if isinstance(given, Tensor) else files.read_sound(Path(given), self.rate)
                if wave.dim() != 1:
                    raise DataError(f"enhancement takes one sound (samples,) at a time; given {tuple(wave.shape)}.")
                answer = enhance(model, wave[None].to(device))[0].float().cpu()
                named = str(given) if isinstance(given, str | Path) else None
                answers.append({"input": named, "rate": self.rate, "samples": answer.tolist()})
        return answers

    def examples(self, split: str, n: int) -> list[dict[str, Any]]:
        """Spectrograms of the noisy and of the clean sound."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        pairs = zip(batch["noisy"], batch["clean"], strict=True)
        return [{"input": self.drawn(a), "truth": self.drawn(b)} for a, b in pairs]

    def pictures(self, model: nn.Module, split: str = "test", n: int = 4) -> list[Picture]:
        """Spectrograms of the noisy, the enhanced and the clean sound."""
        batch = self.sample(split, torch.arange(min(n, self.size(split))))
        with measuring(model) as device:
            estimate = enhance(model, batch["noisy"].to(device)).float().cpu()
        before, after = si_sdr(batch["noisy"], batch["clean"]), si_sdr(estimate, batch["clean"])
        return [
            Picture(
                f"noisy ({float(b):.1f} dB), enhanced ({float(a):.1f} dB), clean",
                beside([self.drawn(x) for x in (batch["noisy"][i], estimate[i], batch["clean"][i])]),
            )
            for i, (b, a) in enumerate(zip(before, after, strict=True))
        ]

    def drawn(self, wave: Float[Tensor, "n"]) -> Pixels:
        """A spectrogram in shades of grey, high tones on top; 60 dB from black to white."""
        fft = 2 ** math.ceil(math.log2(self.rate / 40))
        magnitude, _ = MagnitudePhase(fft, fft // 4, 1.0)(wave[None])
        decibels = 20 * magnitude[0].flip(0).log10()
        return gray(decibels.numpy(), float(decibels.max()) - 60, float(decibels.max()))

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "rate": self.rate,
            "samples": self.long,
            "piece": self.piece,
            "sizes": {split: self.size(split) for split in SPLITS},
        }


def enhance(model: nn.Module, noisy: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """The model's sounds. Raises `OptionError` where they are of another shape than those that it is given."""
    found = model(noisy)
    if found.shape != noisy.shape:
        raise OptionError(
            f"enhancement takes a model that gives waves for waves, {tuple(noisy.shape)}; this one gives "
            f"{tuple(found.shape)}: take mp_senet_micro."
        )
    return found


TASKS = {"enhancement": Enhancement}
