"""CPTR: a captioner without convolution. A ViT reads patches, a transformer decoder writes words about them.

Liu et al. 2021, arXiv:2101.10804; the vocabulary follows the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.blocks.encoder_decoder import EncoderDecoder
from anyformer.blocks.model import sides
from anyformer.core.build import build
from anyformer.core.errors import FitError, SizeError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.core.state import State
from anyformer.models.dense.segmenter import body, channels
from anyformer.models.vision.vit import sized, vit

PAPERS = ("cptr",)


class Captioner(EncoderDecoder):
    """Images `(b, in_channels, *size)` and words so far `(b, n)` to logits of each next word `(b, n, vocab_size)`.

    The encoder is any image model; its last map, as a sequence of patches, is what the decoder's cross-attention reads.
    `generate(images, max_new_tokens=...)` writes; `taps="decoder.*.cross.attention"` gives the words-to-patches maps
    `(b, heads, n, patches)`. Cost: the encoder once an image; then attention over n words and all patches.

    Args:
        backbone: an image model, by its Spec or by a variant's name ("swin_micro"); its class tokens, if it has any,
            are not read.
        decoder: its block, with `cross`.
        dim: channels of the decoder; a backbone of other channels is projected.
        depth: blocks of the decoder.
        vocab_size: number of ids.
        max_length: words of the longest caption, its start among them.
        embed, position: words and their absolute positions.
        norm: norm of the last block's output (pre-norm blocks need it).
        tie: the head uses the embedding's vectors.
        head_bias: a bias of the head.
        start, end: ids that begin and end a caption.
        image_size, in_channels: of the backbone.
        drop_path: stochastic depth of the decoder's last block.
        dropout: share of values dropped in training, in the decoder.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps; a decoder without cross-attention.
        SizeError: an image whose size the backbone cannot take; a caption longer than `max_length`.
    """

    name = "captioner"
    papers = ("cptr",)

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        decoder: Spec,
        dim: int,
        depth: int = 4,
        vocab_size: int = 10000,
        max_length: int = 64,
        embed: Spec = Spec("token"),
        position: Spec | None = Spec("sinusoidal"),
        norm: Spec | None = None,
        tie: bool = False,
        head_bias: bool = True,
        start: int = 1,
        end: int = 2,
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        if "cross" not in decoder.options:
            raise FitError(
                "a captioner's decoder reads patches through cross=, e.g. Spec('cross_attention', heads=8); "
                f"given {decoder}."
            )
        # The images' encoder takes the place of the words' one, which is therefore built without a block.
        super().__init__(
            dim=dim, encoder=decoder, decoder=decoder, encoder_depth=0, decoder_depth=depth, vocab_size=vocab_size,
            max_length=max_length, embed=embed, position=position, decoder_norm=norm, tie=tie, head_bias=head_bias,
            start=start, end=end, drop_path=drop_path, dropout=dropout, init=init,
        )  # fmt: skip
        self.image_size, self.in_channels = sides(image_size), in_channels
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        spec = body(backbone, None, given, init)
        (*_, width) = channels(spec, None, self.image_size, in_channels)
        self.encoder: Any = build(spec, "model")
        self.project = linear(width, dim) if width != dim else None

    def encode(
        self, source: Float[Tensor, "b i *size"], source_segments: Segments | None = None
    ) -> Float[Tensor, "b m c"]:
        """Patches as the decoder reads them."""
        memory = self.encoder.features(source)[-1].flatten(2).transpose(1, 2)
        return memory if self.project is None else self.project(memory)

    def embed(self, ids: Tensor, segments: Segments | None = None, positions: Tensor | None = None) -> Tensor:
        if ids.shape[1] > self.max_length:
            self._too_long(ids.shape[1])
        return super().embed(ids, segments, positions)

    def extend_tokens(self, ids: Int[Tensor, "b n"], state: State) -> tuple[Float[Tensor, "b n c"], State]:
        length = ids.shape[1] + (int(state["seen"].max()) if len(ids) else 0)
        if length > self.max_length:
            self._too_long(length)
        return super().extend_tokens(ids, state)

    def _too_long(self, length: int) -> None:
        raise SizeError(
            f"captions have at most {self.max_length} words here, their start among them; this one has {length}: "
            f"shorten it, or build the model with max_length={length} or more."
        )

    def features(
        self,
        source: Float[Tensor, "b i *size"],
        layers: Sequence[int] | None = None,
        segments: Segments | None = None,
    ) -> list[Float[Tensor, "b c *grid"]]:
        """The backbone's maps, as its own `features`."""
        return self.encoder.features(source, layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random images of `size`, and captions of up to 8 random words."""
        (images,) = self.encoder.example_inputs(size, batch)
        return images, torch.randint(0, self.vocab_size, (batch, min(8, self.max_length)), device=self.device)


def cptr(backbone: Spec, dim: int, depth: int, heads: int, *, ratio: float = 4.0, **options: Any) -> Spec:
    """A ViT, whose image is a whole number of patches, and the Transformer's decoder: post-norm, sqrt(dim), sines."""
    block = Spec(
        "postnorm",
        mixer=Spec("attention", heads=heads),
        cross=Spec("cross_attention", heads=heads),
        ffn=Spec("mlp", ratio=ratio, act=Spec("relu")),
    )
    embed = Spec("token", scale=dim**0.5, std=dim**-0.5)
    backbone = backbone.replace("embed.rest", "refuse")
    return Spec("captioner", backbone=backbone, decoder=block, dim=dim, depth=depth, embed=embed, **options)


VARIANTS = {
    # ViT-B/16 at 384 pixels, 4 blocks of width 768 with 12 heads.
    "cptr": cptr(sized("base", 16), 768, 4, 12, image_size=384, dropout=0.1),
    # Ours, for images of 16 to 64 pixels and for tests.
    "cptr_micro": cptr(
        vit(64, 2, 4, 4, ratio=2.0, head="mean", image_size=32),
        64, 2, 4, ratio=2.0, vocab_size=64, max_length=16, image_size=32, init="fan_in",
    ),
}  # fmt: skip
