"""SimMIM: predict the raw pixels of masked squares from the others, with one linear layer after the encoder.

Xie et al. 2021, arXiv:2111.09886. The encoders are those of the authors' repository; any image model can be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.core import init
from anyformer.core.errors import SizeError
from anyformer.core.spec import Spec
from anyformer.models.vision.masked_image import ImageRestorer, cut
from anyformer.models.vision.swin import SMALL, swin
from anyformer.models.vision.swin import VARIANTS as SWIN
from anyformer.models.vision.vit import VARIANTS as VIT

PAPERS = ("simmim",)


class SimMIM(ImageRestorer):
    """Tokens under the mask become one learned token after the embedding; a linear layer predicts every pixel.

    Images `(b, c, h, w)` and a mask `(b, *grid)` of the embedding's tokens (True: hidden) to images `(b, c, h, w)`.
    Equations: x_i <- m_i t + (1 - m_i) x_i after the embedding; pixels = shuffle(W y + b). Section 3 of the paper.
    Cost: the encoder's on the whole image, and c stride^2 dim multiply-adds per last token.

    Args:
        encoder, image_size, in_channels: as `ImageRestorer`'s.
    """

    name = "simmim"
    papers = ("simmim",)

    def __init__(
        self,
        *,
        encoder: Spec,
        image_size: int | Sequence[int] | None = None,
        in_channels: int | None = None,
    ):
        super().__init__(encoder, image_size, in_channels)
        token = self.encoder.embed(torch.zeros(1, self.in_channels, *self.image_size)).shape[-1]
        self.mask_token = nn.Parameter(init.trunc_normal(torch.empty(token), 0.02))
        with init.starting(self.start):
            self.decoder = init.linear(self.dim, self.in_channels * self.stride**2)
        self._mask: Tensor | None = None
        self.encoder.embed.register_forward_hook(self._hide)

    def _hide(self, embed: nn.Module, images: Any, tokens: Tensor) -> Tensor:
        if self._mask is None:
            return tokens
        if self._mask.shape != tokens.shape[:-1]:
            raise SizeError(
                f"the mask has one entry for each of {tuple(tokens.shape[:-1])} tokens; "
                f"given {tuple(self._mask.shape)}."
            )
        return torch.where(self._mask.bool()[..., None], self.mask_token.to(tokens.dtype), tokens)

    def encode(
        self, images: Float[Tensor, "b i h w"], mask: Bool[Tensor, "b *grid"] | None = None
    ) -> Float[Tensor, "b c H W"]:
        """The encoder's last tokens as a map."""
        self._mask = mask
        try:
            tokens = self.encoder.tokens(images)
        finally:
            self._mask = None
        return self.on_grid(tokens, images.shape[2:])

    def forward(
        self, images: Float[Tensor, "b i h w"], mask: Bool[Tensor, "b *grid"] | None = None
    ) -> Float[Tensor, "b i h w"]:
        y = self.decoder(self.encode(images, mask).movedim(1, -1)).movedim(-1, 1)
        return cut(nn.functional.pixel_shuffle(y, self.stride), images.shape[2:])

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random images, and masks of every second token."""
        (images,) = super().example_inputs(size, batch)
        grid = self.encoder.embed.grid(images.shape[2:])
        hidden = torch.arange(grid[0] * grid[1], device=images.device).view(1, *grid) % 2 == 0
        return images, hidden.expand(batch, -1, -1).clone()


def relative_vit(dim: int, depth: int, heads: int, patch: int, *, scale: float = 0.1, image_size: int = 224) -> Spec:
    """The authors' ViT: shared relative positions, no bias of the keys, branches that start small."""
    norm = Spec("layernorm", eps=1e-6)
    block = Spec(
        "prenorm",
        mixer=Spec("attention", heads=heads, bias="qv"),
        ffn=Spec("mlp", ratio=4.0),
        norm=norm,
        residual=Spec("layer_scale", init=scale),
    )
    return Spec(
        "relative_vit",
        dim=dim,
        depth=depth,
        block=block,
        embed=Spec("patch", size=patch),
        norm=norm,
        head=Spec("classifier", pool=Spec("class")),
        image_size=image_size,
    )


VARIANTS = {
    "simmim_vit_base": Spec("simmim", encoder=relative_vit(768, 12, 12, 16)),
    "simmim_swin_base": Spec("simmim", encoder=SWIN["swin_base_window6"]),
    "simmim_swin_large": Spec("simmim", encoder=swin(192, SMALL, (6, 12, 24, 48), windows=12, image_size=192)),
    # Ours, for images of 8 to 32 pixels and for tests.
    "simmim_micro": Spec("simmim", encoder=VIT["vit_micro"]),
}
