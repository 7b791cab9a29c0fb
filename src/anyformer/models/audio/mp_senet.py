"""MP-SENet: speech without its noise, from a mask of magnitudes and an estimate of phases side by side.

Lu, Ai and Ling 2023, arXiv:2308.08926 (and arXiv:2305.13686), section III.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anyformer.blocks.block import Block
from anyformer.blocks.model import Model
from anyformer.blocks.stack import Stack
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.recurrence.gru import BidirectionalGRU
from anyformer.layers.spectral.stft import MagnitudePhase


def anti_wrap(difference: Tensor) -> Tensor:
    """How far apart two phases are, in [0, pi], whatever full turns lie between them (arXiv:2308.08926, eq. 6)."""
    return (difference - torch.round(difference / (2 * math.pi)) * 2 * math.pi).abs()


def phase_loss(estimate: Float[Tensor, "b f t"], truth: Float[Tensor, "b f t"]) -> Tensor:
    """Mean anti-wrapped error of phases, of group delays and of instantaneous angular frequencies (eq. 7 to 9)."""
    pairs = [(estimate, truth), *((estimate.diff(dim=axis), truth.diff(dim=axis)) for axis in (1, 2))]
    return sum((anti_wrap(a - b).mean() for a, b in pairs), torch.zeros((), device=truth.device))


def unit(inputs: int, dim: int, kernel: tuple[int, int], **options) -> list[nn.Module]:
    """A convolution, instance norm and PReLU."""
    return [nn.Conv2d(inputs, dim, kernel, **options), nn.InstanceNorm2d(dim, affine=True), nn.PReLU(dim)]


class DilatedDense(nn.Module):
    """Convolutions over `(b, c, t, f)`, each reading all earlier outputs, with dilation 1, 2, 4, ... in time alone.

    They look at earlier frames only. Pandey and Wang 2020.
    """

    def __init__(self, dim: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.ConstantPad2d((1, 1, 2**i, 0), 0.0), *unit(dim * (i + 1), dim, (2, 3), dilation=(2**i, 1)))
            for i in range(depth)
        )

    def forward(self, x: Float[Tensor, "b c t f"]) -> Float[Tensor, "b c t f"]:
        known, y = x, x
        for layer in self.layers:
            y = layer(known)
            known = torch.cat([y, known], 1)
        return y


class Encoder(nn.Module):
    """Magnitudes and phases `(b, 2, t, f)` to tokens `(b, t, (f + 1) / 2, c)`."""

    def __init__(self, dim: int, dense: int):
        super().__init__()
        self.first = nn.Sequential(*unit(2, dim, (1, 1)))
        self.dense = DilatedDense(dim, dense)
        self.halve = nn.Sequential(*unit(dim, dim, (1, 3), stride=(1, 2), padding=(0, 1)))

    def forward(self, x: Float[Tensor, "b 2 t f"]) -> Float[Tensor, "b t h c"]:
        return self.halve(self.dense(self.first(x))).movedim(1, -1)


class Decoder(nn.Module):
    """Tokens `(b, t, (f + 1) / 2, c)` to maps `(b, maps, f, t)`; frequencies are doubled from pairs of channels."""

    def __init__(self, dim: int, dense: int, maps: int):
        super().__init__()
        self.dense = DilatedDense(dim, dense)
        self.widen = nn.Conv2d(dim, 2 * dim, (1, 3), padding=(0, 1))
        self.norm, self.act = nn.InstanceNorm2d(dim, affine=True), nn.PReLU(dim)
        self.last = nn.Conv2d(dim, maps, (1, 2))

    def forward(self, x: Float[Tensor, "b t h c"]) -> Float[Tensor, "b maps f t"]:
        y = self.widen(self.dense(x.movedim(-1, 1))).unflatten(1, (2, -1))
        y = y.movedim(1, -1).flatten(-2)
        return self.last(self.act(self.norm(y))).transpose(2, 3)


class AxisTransformer(nn.Module):
    """Attention, then a recurrent feed-forward layer, over sequences `(n, l, c)`; around both, another residual.

    x + norm(y + ffn(norm(y))) with y = x + attention(norm(x)); ffn is a bidirectional GRU of `hidden` units each way,
    leaky ReLU and a linear layer.
    """

    def __init__(self, dim: int, mixer: Spec, hidden: int, layer: int, layers: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.mixer = build(mixer, "mixer", dim=dim, grid=(None,), layer=layer, layers=layers)
        self.gru = BidirectionalGRU(dim, hidden)
        self.out = linear(2 * hidden, dim)

    def forward(self, x: Float[Tensor, "n l c"]) -> Float[Tensor, "n l c"]:
        y = x + self.mixer(self.norm1(x))
        y = y + self.out(F.leaky_relu(self.gru(self.norm2(y))))
        return x + self.norm3(y)


class TimeFrequencyBlock(Block):
    """Tokens `(b, t, f, c)`: a transformer along frequency, then one along time.

    The paper names time first. The authors' program hands its sequences to layers that take the batch second, so that
    its published weights were trained in this order, and this is what they need. Cost: t f (t + f) c.

    Args:
        dim: channels.
        mixer: of both; serves sequences.
        ratio: units of the recurrent layers each way, per channel.
        layer, layers: passed to it, where it asks for them.
    """

    name = "time_frequency_block"
    papers = ("mp_senet",)

    def __init__(
        self,
        dim: int,
        *,
        mixer: Spec = Spec("attention", heads=4),
        ratio: float = 2.0,
        layer: int = 0,
        layers: int = 1,
    ):
        super().__init__()
        hidden = int(dim * ratio)
        self.frequency = AxisTransformer(dim, mixer, hidden, layer, layers)
        self.time = AxisTransformer(dim, mixer, hidden, layer, layers)

    def forward(self, x: Float[Tensor, "b t f c"], segments: Segments | None = None) -> Float[Tensor, "b t f c"]:
        batch = len(x)
        x = self.frequency(x.flatten(0, 1)).unflatten(0, (batch, -1))
        return self.time(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)


class MPSENet(Model):
    """Noisy waves `(b, samples)` to clean ones of the same length.

    Compressed magnitudes and phases are encoded together. One decoder gives a mask, beta sigmoid(a_f x) with a learned
    slope a_f per frequency, for the magnitudes; the other gives two maps whose arctangent is the phase itself. Waves
    are brought to mean square 1 before, and back after.

    Args:
        dim, depth: channels; blocks.
        block: over tokens `(b, t, f, c)`.
        dense: convolutions of each dense part.
        fft, hop, power: of the spectra; see `MagnitudePhase`.
        beta: the mask's limit.
        turn_from: what phases are turned from: "zero", as published, or "noisy": the two maps then turn the noisy
            phase, which small models learn in minutes (the published one needs many thousand steps to learn even to
            keep it).
        samples: of example inputs; any length of a frame or more is served.
        init: as `Isotropic`'s, of the linear layers.

    Raises:
        OptionError: an `fft` that is no multiple of 4, whose frequencies could not be halved and doubled again.
        SizeError: a wave shorter than a frame.
    """

    name = "mp_senet"
    papers = ("mp_senet",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int = 64,
        depth: int = 4,
        block: Spec = Spec("time_frequency_block"),
        dense: int = 4,
        fft: int = 400,
        hop: int = 100,
        power: float = 0.3,
        beta: float = 2.0,
        turn_from: Literal["zero", "noisy"] = "zero",
        samples: int = 32000,
        init: Start = "published",
    ):
        super().__init__()
        if fft % 4:
            raise OptionError(f"mp_senet.fft is a multiple of 4; given {fft}: take {fft - fft % 4 or 4}.")
        self.beta, self.samples = beta, samples
        self.turn_from: Literal["zero", "noisy"] = turn_from
        self.spectra = MagnitudePhase(fft, hop, power)
        self.encoder = Encoder(dim, dense)
        self.blocks = Stack(block, depth, dim=dim, grid=(None, None))
        self.mask = Decoder(dim, dense, maps=1)
        self.slope = nn.Parameter(torch.ones(fft // 2 + 1, 1))
        self.phase = Decoder(dim, dense, maps=2)

    def encoded(self, magnitude: Tensor, phase: Tensor) -> Float[Tensor, "b t h c"]:
        """Tokens before the first block."""
        return self.encoder(torch.stack([magnitude, phase], 1).transpose(2, 3))

    def estimate(
        self, magnitude: Float[Tensor, "b f t"], phase: Float[Tensor, "b f t"]
    ) -> tuple[Float[Tensor, "b f t"], Float[Tensor, "b f t"]]:
        """Clean compressed magnitudes and phases in (-pi, pi], from noisy ones."""
        x = self.blocks(self.encoded(magnitude, phase))
        mask = self.beta * torch.sigmoid(self.slope * self.mask(x)[:, 0])
        real, imaginary = self.phase(x).float().unbind(1)
        if self.turn_from == "noisy":
            cos, sin = phase.cos(), phase.sin()
            real, imaginary = (1 + real) * cos - imaginary * sin, (1 + real) * sin + imaginary * cos
        return magnitude * mask, torch.atan2(imaginary, real)

    def level(self, waves: Tensor) -> Float[Tensor, "b 1"]:
        """The factor that brings each wave to mean square 1."""
        return waves.square().mean(1, keepdim=True).clamp(min=1e-12).rsqrt()

    def forward(self, waves: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        level = self.level(waves)
        magnitude, phase = self.estimate(*self.spectra(waves * level))
        return self.spectra.inverse(magnitude, phase, waves.shape[1]) / level

    def objective(self, noisy: Float[Tensor, "b n"], clean: Float[Tensor, "b n"]) -> Tensor:
        """The training loss, of levelled waves: magnitudes, phases, complex spectra, their consistency, and time.

        0.9 L_mag + 0.3 L_pha + 0.2 L_com + 0.2 L_stft + 0.2 L_time, the authors' weights, without the adversarial
        term that learns to rate speech as PESQ does (there weighed by 0.05).
        """
        level = self.level(noisy)
        noisy, clean = noisy * level, clean * level
        magnitude, phase = self.spectra(clean)
        found_magnitude, found_phase = self.estimate(*self.spectra(noisy))
        wave = self.spectra.inverse(found_magnitude, found_phase, clean.shape[1])
        found, again = polar(found_magnitude, found_phase), polar(*self.spectra(wave))
        return (
            0.9 * F.mse_loss(found_magnitude, magnitude)
            + 0.3 * phase_loss(found_phase, phase)
            + 0.2 * F.mse_loss(found, polar(magnitude, phase))
            + 0.2 * F.mse_loss(found, again)
            + 0.2 * F.l1_loss(wave, clean)
        )

    def features(
        self, waves: Float[Tensor, "b n"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c t h"]]:
        """Maps over time and frequency after the chosen blocks; with `layers=None`, after the last."""
        x = self.encoded(*self.spectra(waves * self.level(waves)))
        found = [self.blocks(x)] if layers is None else self.blocks.outputs(x, layers)
        return [y.movedim(-1, 1) for y in found]

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random waves of `size` samples."""
        samples = self.samples if size is None else size if isinstance(size, int) else size[0]
        return (torch.randn(batch, samples, device=self.device),)


def polar(magnitude: Float[Tensor, "*b"], phase: Float[Tensor, "*b"]) -> Float[Tensor, "*b 2"]:
    """Real and imaginary parts."""
    return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], -1)


VARIANTS = {
    "mp_senet": Spec("mp_senet"),
    # Ours, for voices at 8 kHz and for tests.
    "mp_senet_micro": Spec(
        "mp_senet",
        dim=12,
        depth=1,
        block=Spec("time_frequency_block", mixer=Spec("attention", heads=2)),
        dense=2,
        fft=128,
        hop=64,
        turn_from="noisy",
        samples=1536,
        init="fan_in",
    ),
}
