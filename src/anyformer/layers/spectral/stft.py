"""From waves to magnitudes and phases of their short-time spectra, and back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError, SizeError


class MagnitudePhase(nn.Module):
    """Waves `(b, samples)` to compressed magnitudes |S|^c and phases in (-pi, pi], both `(b, bins, frames)`, and back.

    S is the short-time Fourier transform with a Hann window as long as the transform; frames are centred at multiples
    of the hop, the wave mirrored at its ends. A power c of 0.3 brings loud and soft closer together (Lee et al. 2018).
    bins = fft / 2 + 1; frames = floor(samples / hop) + 1.

    Args:
        fft, hop: samples of a frame, and from one frame to the next.
        power: c.

    Raises:
        OptionError: frames that leave gaps.
        SizeError: a wave shorter than a frame.
    """

    window: Tensor

    def __init__(self, fft: int = 400, hop: int = 100, power: float = 0.3):
        super().__init__()
        if not 1 <= hop <= fft // 2:
            raise OptionError(f"frames overlap by half or more: hop is 1 to {fft // 2} for fft={fft}; given {hop}.")
        self.fft, self.hop, self.power = fft, hop, power
        self.register_buffer("window", torch.hann_window(fft), persistent=False)

    def forward(self, waves: Float[Tensor, "b n"]) -> tuple[Float[Tensor, "b bins frames"], Tensor]:
        """Compressed magnitudes and phases."""
        if waves.dim() != 2 or waves.shape[1] < self.fft:
            raise SizeError(
                f"sounds come as (batch, samples) with at least {self.fft} samples, one frame; given "
                f"{tuple(waves.shape)}: pad shorter ones with silence."
            )
        half = self.fft // 2
        padded = nn.functional.pad(waves.float()[:, None], (half, half), mode="reflect")[:, 0]
        found = torch.fft.rfft(padded.unfold(-1, self.fft, self.hop) * self.window).transpose(1, 2)
        # Small constants keep the gradients of square root and arctangent finite in silence.
        magnitude = (found.real.square() + found.imag.square() + 1e-9).sqrt() ** self.power
        return magnitude, torch.atan2(found.imag + 1e-10, found.real + 1e-5)

    def inverse(self, magnitude: Tensor, phase: Tensor, samples: int) -> Float[Tensor, "b n"]:
        """The wave of so many samples whose spectra are nearest, by overlap and addition (Griffin and Lim 1984)."""
        loud = magnitude.float() ** (1 / self.power)
        found = torch.complex(loud * phase.float().cos(), loud * phase.float().sin())
        frames = torch.fft.irfft(found, self.fft, dim=1) * self.window[:, None]
        total = self.fft + self.hop * (frames.shape[2] - 1)

        def added(pieces: Tensor) -> Tensor:
            return nn.functional.fold(pieces, (1, total), (1, self.fft), stride=(1, self.hop))[:, 0, 0]

        share = added(self.window.square()[None, :, None].expand(1, -1, frames.shape[2]))
        half = self.fft // 2
        return (added(frames)[:, half : half + samples]) / share[:, half : half + samples].clamp(min=1e-11)
