"""The skeleton of super-resolution: a deep body at the input's resolution, then finer pixels (SwinIR, HAT, DRCT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.model import ImageModel, channels_first, sides
from anyformer.blocks.padding import Rest, check_multiple, fill
from anyformer.blocks.stack import Stack, growing
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv


class Enlarger(ImageModel):
    """Images `(b, in_channels, *size)` to images `(b, num_classes, *size * scale)`.

    z = stem(x - mean); z + conv(norm(body(norm(z)))); convolution to `features` channels; finer pixels; convolution;
    + mean. Liang et al. 2021 (SwinIR), arXiv:2108.10257, section 3.1, for classical super-resolution.

    Args:
        dim, depth: channels and groups of the body.
        block: the group, or groups that alternate.
        scale: how many times larger the output's sides are: 1, 3, or a power of two.
        features: channels of the last convolutions.
        stem_norm, norm: norms of the body's input and output.
        upsample: a step of finer pixels; a power of two takes steps of two.
        body_std: deviation of the first weights of the body's last convolution (None: what `init` says); a small one
            lets short trainings begin with what the stem sees.
        mean: taken off the image and added to the output, a number per channel; () or a number of channels other than
            `in_channels` for none.
        multiple: sides of the image on which the body runs are multiples of this (the window).
        rest: other images are filled up by reflection and the output is cut back ("reflect"), or raise `SizeError`.
        image_size, in_channels, drop_path, dropout: as `Isotropic`'s; num_classes is the channels of the output (None:
            the image's).
        init: as `Isotropic`'s.

    Raises:
        OptionError: a scale that is no 1, 3 or power of two; a mean between other numbers of channels.
    """

    name = "enlarger"
    papers = ("drct",)
    mean: Tensor

    @chooses_start
    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        block: Spec | Sequence[Spec],
        scale: int = 2,
        features: int = 64,
        stem_norm: Spec | None = Spec("layernorm"),
        norm: Spec | None = Spec("layernorm"),
        upsample: Spec = Spec("pixel_shuffle"),
        body_std: float | None = None,
        mean: Sequence[float] = (),
        multiple: int = 1,
        rest: Rest = "reflect",
        image_size: int | Sequence[int] = 64,
        in_channels: int = 3,
        num_classes: int | None = None,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels, self.scale = sides(image_size), in_channels, scale
        outputs = in_channels if num_classes is None else num_classes
        if outputs < 1:
            raise OptionError(f"{self.name} gives an image of at least one channel; given num_classes={num_classes}.")
        check_multiple(self.image_size, multiple, rest, self.name)
        self.multiple = multiple
        self.rest: Rest = rest
        rank = len(self.image_size)

        def conv(inputs: int, outputs: int, std: float | None = None) -> StridedConv:
            return StridedConv(inputs, outputs, kernel=3, stride=1, padding=1, std=std, rank=rank, what=self.name)

        shift = torch.tensor(mean if len(mean) == in_channels == outputs else [0.0] * in_channels)
        self.register_buffer("mean", shift.view(-1, *[1] * rank), persistent=False)
        self.stem = conv(in_channels, dim)
        self.stem_norm = build(stem_norm, "norm", dim=dim) if stem_norm is not None else None
        grid = self.image_size
        self.groups = Stack(block, depth, dim=dim, grid=grid, drop_path=growing(drop_path, depth), dropout=dropout)
        self.norm = build(norm, "norm", dim=dim) if norm is not None else None
        self.body_end = conv(dim, dim, body_std)
        self.narrow = conv(dim, features)
        self.act = build(Spec("leaky_relu"), "act")
        self.upsample = nn.ModuleList(
            build(upsample, "upsample", inputs=features, dim=features, factor=factor, rank=rank)
            for factor in steps(scale)
        )
        self.head = conv(features, outputs)

    def shallow(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *size c"]:
        """The stem's tokens, to which the body's are added."""
        return self.stem((images - self.mean).movedim(1, -1))

    def tokens(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b *size c"]:
        """Tokens after the body and its residual, of the image as it was filled up."""
        z = self.shallow(fill(images, self.multiple, self.rest, self.name))
        x = self.groups(z if self.stem_norm is None else self.stem_norm(z))
        return z + self.body_end(x if self.norm is None else self.norm(x))

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *size"]]:
        """Maps after every group, or after the chosen ones; of the image as it was filled up."""
        z = self.shallow(fill(images, self.multiple, self.rest, self.name))
        chosen = range(len(self.groups)) if layers is None else layers
        outputs = self.groups.outputs(z if self.stem_norm is None else self.stem_norm(z), list(chosen))
        return [channels_first(x) for x in outputs]

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b o *larger"]:
        x = self.act(self.narrow(self.tokens(images)))
        for step in self.upsample:
            x = step(x)
        y = channels_first(self.head(x))
        y = y[(slice(None), slice(None), *(slice(self.scale * s) for s in images.shape[2:]))]
        return y + self.mean if y.shape[1] == len(self.mean) else y


def steps(scale: int) -> list[int]:
    """Factors of the steps that enlarge by `scale`. Raises `OptionError` for other scales than 1, 3 and powers of 2."""
    if scale == 3:
        return [3]
    if scale < 1 or scale & (scale - 1):
        raise OptionError(f"enlarger.scale is 1, 3 or a power of two; given {scale}.")
    return [2] * (scale.bit_length() - 1)
