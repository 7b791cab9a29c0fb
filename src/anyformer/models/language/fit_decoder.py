"""FIT (Far-reaching Interleaved Transformer) as an autoregressive decoder: groups of ids, and latents of each group.

Chen and Li 2023, arXiv:2305.12689, section 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.interleaved import NORM, Interleaved, attending, last_alone, learned
from anyformer.blocks.model import Model
from anyformer.blocks.text import TextEmbedding, check_ids, example_length
from anyformer.core.build import build
from anyformer.core.errors import SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec

PAPERS = ("fit",)


class FITDecoder(Model):
    """Ids `(b, n)` to logits of the next id `(b, n, vocab_size)`; what is far reaches a token through latents.

    A token sees the earlier ones of its group, and through the latents all groups before. All groups share one table of
    positions. Cost of attention: n group c + (n latents / group)^2 d multiply-adds a layer of each kind.

    Args:
        dim, latent_dim: channels of tokens and of latents.
        layers: local layers in brackets and global ones behind them, such as "(2)4(2)".
        group: ids of a group.
        latents: of each group; 0 for local layers alone.
        heads, latent_heads: of local and global layers; exchanges have the fewer.
        ratio: hidden channels per channel.
        vocab_size: number of ids; the head uses the embedding's vectors.
        max_length: the longest sequence, a multiple of `group`.
        drop_path, dropout, init: as `Isotropic`'s.

    Raises:
        SizeError: a sequence that is not made of whole groups, or too long.
        OptionError: another notation of layers.
    """

    name = "fit_decoder"
    papers = ("fit",)

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        latent_dim: int,
        layers: str = "(2)4(2)",
        group: int = 16,
        latents: int = 1,
        heads: int = 8,
        latent_heads: int = 8,
        ratio: float = 4.0,
        vocab_size: int = 256,
        max_length: int = 4096,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.vocab_size, self.max_length, self.group = vocab_size, max_length, group
        self.whole_groups(max_length)
        groups = max_length // group
        self.embedding = TextEmbedding(dim, vocab_size=vocab_size, max_length=max_length, dropout=dropout)
        self.position = learned(group, dim)
        self.latents = learned(groups, latents, latent_dim)
        self.layers = Interleaved(
            dim, latent_dim, layers=layers, groups=groups, size=group, latents=latents, local=attending(heads, ratio),
            globally=attending(latent_heads, ratio), heads=min(heads, latent_heads), causal=True, drop_path=drop_path,
            dropout=dropout,
        )  # fmt: skip
        self.norm = build(NORM, "norm", dim=dim)

    def whole_groups(self, length: int) -> None:
        """Raise `SizeError` unless a sequence of this length is made of whole groups, and not too long."""
        if self.group < 1 or length % self.group or not 0 < length <= self.max_length:
            near = min(max(1, round(length / max(self.group, 1))) * self.group, self.max_length)
            raise SizeError(
                f"{self.name} takes sequences that are multiples of {self.group} ids, its group, up to "
                f"{self.max_length}; given {length}, the nearest is {near}: fill the last group up, as what follows a "
                "token does not change its logits."
            )

    def tokens(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        """Tokens after the last layer and norm."""
        check_ids(ids, self.vocab_size)
        self.whole_groups(ids.shape[1])
        x = self.embedding(ids).unflatten(1, (-1, self.group)) + self.position
        latents = self.latents[: x.shape[1]].expand(len(ids), -1, -1, -1)
        return self.norm(self.layers(x, latents)[0].flatten(1, 2))

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        return nn.functional.linear(self.tokens(ids), self.embedding.embed.weight)

    def features(self, ids: Int[Tensor, "b n"], layers: Sequence[int] | None = None) -> list[Float[Tensor, "b n c"]]:
        """Tokens after the last layer and norm; there is one such, number 0 or -1."""
        return last_alone(self.tokens(ids), layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        length = example_length(size, self.max_length)
        length = max(self.group, length // self.group * self.group)
        return (torch.randint(0, self.vocab_size, (batch, length), device=self.device),)


VARIANTS = {
    # Ours, for tests and small data.
    "fit_decoder_micro": Spec(
        "fit_decoder",
        dim=32,
        latent_dim=48,
        layers="(1)1(1)1(1)",
        group=8,
        latents=2,
        heads=2,
        latent_heads=2,
        ratio=2.0,
        max_length=64,
        init="fan_in",
    ),
}
