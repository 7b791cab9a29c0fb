"""Sound as a picture: energies in bands of the mel scale, frame by frame, in logarithms."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError, SizeError

EPSILON = torch.finfo(torch.float32).eps


def mel(hertz: Tensor) -> Tensor:
    """The mel scale, 1127 ln(1 + f / 700)."""
    return 1127 * torch.log1p(hertz / 700)


def mel_filters(mels: int, fft: int, rate: int, low: float, high: float) -> Float[Tensor, "mels bins"]:
    """Triangles of equal width on the mel scale over the fft / 2 + 1 bins of a real transform; the last bin counts not.

    Args:
        mels: triangles; each begins where the last but one ends.
        fft: samples of the transform.
        rate: samples a second.
        low, high: where the first begins and the last ends, in hertz.

    Raises `OptionError` where the band is empty or ends above half the rate.
    """
    if not 0 <= low < high <= rate / 2:
        raise OptionError(f"a band lies within 0 and {rate / 2:g} Hz, half the rate; given {low:g} to {high:g} Hz.")
    ends = mel(torch.tensor([low, high], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), mels + 2, dtype=torch.float64)
    at = mel(torch.arange(fft // 2, dtype=torch.float64) * rate / fft)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((at - left) / (middle - left), (right - at) / (right - middle)).clamp(min=0)
    return nn.functional.pad(triangles, (0, 1)).float()


class LogMel(nn.Module):
    """Waveforms `(b, samples)` in [-1, 1] to log-mel energies `(b, mels, frames)`.

    Args:
        mels: bands.
        rate: samples a second.
        window, hop: samples of a frame, and from one frame to the next.
        fft: samples of the transform; None: the power of two that holds a window.
        low, high: the bands' limits in hertz (None: half the rate).
        mean, deviation: taken off the logarithms, and what they are then divided by.
    """

    filters: Tensor
    hann: Tensor

    def __init__(
        self,
        mels: int = 128,
        *,
        rate: int = 16000,
        window: int = 400,
        hop: int = 160,
        fft: int | None = None,
        low: float = 20.0,
        high: float | None = None,
        mean: float = 0.0,
        deviation: float = 1.0,
    ):
        super().__init__()
        self.mels, self.rate, self.window, self.hop = mels, rate, window, hop
        self.fft = 2 ** math.ceil(math.log2(window)) if fft is None else fft
        self.mean, self.deviation = mean, deviation
        filters = mel_filters(mels, self.fft, rate, low, rate / 2 if high is None else high)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("hann", torch.hann_window(window, periodic=False), persistent=False)

    def frames(self, samples: int) -> int:
        """Frames of a waveform of so many samples."""
        raise NotImplementedError

    def power(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b bins frames"]:
        """Squared magnitudes of the transform of every frame."""
        raise NotImplementedError

    def logarithm(self, energies: Tensor) -> Tensor:
        """Logarithms that stay finite in silence."""
        raise NotImplementedError

    def forward(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b mels frames"]:
        if self.frames(waves.shape[-1]) < 1:
            raise SizeError(
                f"a sound of {waves.shape[-1]} samples holds no frame of {self.window}; give {self.window} or more."
            )
        return (self.logarithm(self.filters @ self.power(waves)) - self.mean) / self.deviation


class KaldiLogMel(LogMel):
    """As Kaldi computes its filterbank features: whole frames only, each centred at 0 and pre-emphasized on its own.

    The input of AST (arXiv:2104.01778, section 2.1), whose constants for AudioSet are mean -4.2677393 and deviation
    2 * 4.5689974. Arguments as `LogMel`'s; frames = floor((samples - window) / hop) + 1.

    Raises:
        SizeError: fewer samples than a window.
    """

    def frames(self, samples: int) -> int:
        return (samples - self.window) // self.hop + 1

    def power(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b bins frames"]:
        frames = waves.unfold(-1, self.window, self.hop)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], -1)
        return torch.fft.rfft(frames * self.hann, self.fft).abs().square().transpose(-1, -2)

    def logarithm(self, energies: Tensor) -> Tensor:
        return energies.clamp(min=EPSILON).log()


class CentredLogMel(LogMel):
    """Frames centred at multiples of the hop, mirrored at both ends, of a waveform that is pre-emphasized as a whole.

    PaSST's input (arXiv:2110.05069, section 3.1), there at 32 kHz: window 800, hop 320, fft 1024, low 0, high 15000,
    mean -4.5, deviation 5. Arguments as `LogMel`'s; frames = floor((samples - 1) / hop) + 1.

    Raises:
        SizeError: no more samples than half a transform, which the mirror needs.
    """

    def frames(self, samples: int) -> int:
        return (samples - 1) // self.hop + 1 if samples - 1 > self.fft // 2 else 0

    def power(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b bins frames"]:
        waves = waves[..., 1:] - 0.97 * waves[..., :-1]
        found = torch.stft(waves, self.fft, self.hop, self.window, self.hann, center=True, return_complex=True)
        return found.abs().square()

    def logarithm(self, energies: Tensor) -> Tensor:
        return (energies + 1e-5).log()
