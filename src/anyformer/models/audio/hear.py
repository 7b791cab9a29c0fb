"""Embeddings of sounds from a frozen model: one for a clip, and a series over time.

Koutini et al. 2022, arXiv:2211.13956, section 3, after the interface of the HEAR challenge (arXiv:2203.03022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.core.errors import OptionError, SizeError
from anyformer.layers.spectral.mel import LogMel
from anyformer.models.audio.passt import PaSST

LEVELS = ("mel", "penultimate", "logits")


class SoundEmbedding(nn.Module):
    """Waves `(b, samples)` to embeddings of clips and of times, by a trained `PaSST`.

    Args:
        model: in evaluation mode here, whatever it is set to.
        spectrogram: makes the model's inputs; its `rate` is the one that waves have.
        levels: what an embedding consists of, in this order: "mel" (the spectrogram's mean over time), "penultimate"
            (the mean of class and distillation tokens), "logits".
        window, hop: of the series over time, in seconds.
        scene_hop: between the windows that a clip longer than the model takes is cut into, in seconds.
    """

    def __init__(
        self,
        model: PaSST,
        spectrogram: LogMel,
        *,
        levels: Sequence[str] = ("penultimate", "logits"),
        window: float = 0.16,
        hop: float = 0.05,
        scene_hop: float = 2.5,
    ):
        super().__init__()
        if not levels or any(level not in LEVELS for level in levels):
            raise OptionError(f"levels are one or more of {', '.join(LEVELS)}; given {', '.join(levels) or 'none'}.")
        self.model, self.spectrogram, self.levels = model, spectrogram, tuple(levels)
        rate = spectrogram.rate
        self.window, self.hop, self.scene_hop = (max(1, round(t * rate)) for t in (window, hop, scene_hop))
        self.longest = self.fitting()

    def fitting(self) -> int:
        """Samples of the longest clip, in whole hops, whose patches are no more than the model has times for."""
        bands, frames = self.model.image_size
        samples = frames * self.spectrogram.hop
        while True:
            longer = samples + self.spectrogram.hop
            if self.model.embed.grid((bands, self.spectrogram.frames(longer)))[1] > self.model.grid[1]:
                return samples
            samples = longer

    def check(self, waves: Tensor, rate: int) -> None:
        """Raise `SizeError` for anything but waves `(b, samples)`, `OptionError` for another rate."""
        if waves.dim() != 2:
            raise SizeError(f"sounds come as (batch, samples), one channel each; given {tuple(waves.shape)}.")
        if rate != self.spectrogram.rate:
            raise OptionError(
                f"this model hears {self.spectrogram.rate} samples a second; given rate={rate}: convert the sounds."
            )

    @torch.no_grad()
    def forward(self, waves: Float[Tensor, "b samples"]) -> Float[Tensor, "b e"]:
        """Embeddings of waves that the model takes whole."""
        was_training = self.model.training
        self.model.eval()
        try:
            images = self.spectrogram(waves)[:, None]
            found = {"mel": images.mean((1, 3))}
            if set(self.levels) != {"mel"}:
                tokens = self.model.tokens(images)
                found["penultimate"] = self.model.head.pool(tokens, prefix=self.model.num_prefix)
                found["logits"] = self.model.head(tokens, prefix=self.model.num_prefix)
        finally:
            self.model.train(was_training)
        return torch.cat([found[level] for level in self.levels], -1)

    def scene(self, waves: Float[Tensor, "b samples"], rate: int) -> Float[Tensor, "b e"]:
        """One embedding for each clip; a clip longer than the model takes has the mean over windows."""
        self.check(waves, rate)
        if waves.shape[1] <= self.longest:
            return self(waves)
        return self.series(waves, self.longest, self.scene_hop)[0].mean(1)

    def timestamps(
        self, waves: Float[Tensor, "b samples"], rate: int
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "n"]]:
        """Embeddings of short windows, and the time in milliseconds at which each is centred: 0, hop, 2 hop, ..."""
        self.check(waves, rate)
        return self.series(waves, self.window, self.hop)

    def series(self, waves: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor]:
        """Embeddings of windows every `hop` samples, the waves mirrored at both ends, and their times."""
        half = window // 2
        if half >= waves.shape[1]:
            raise SizeError(
                f"windows of {window} samples are mirrored at the ends of sounds, which need more than {half}; given "
                f"{waves.shape[1]}: give longer sounds or a shorter window."
            )
        padded = nn.functional.pad(waves[:, None], (half, half), mode="reflect")[:, 0]
        pieces = padded.unfold(-1, window, hop)
        found = torch.stack([self(piece) for piece in pieces.unbind(1)], 1)
        times = torch.arange(found.shape[1]) * (1000.0 * hop / self.spectrogram.rate)
        return found, times
