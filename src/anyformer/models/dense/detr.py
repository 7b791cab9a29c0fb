"""DETR: an encoder over a backbone's last map, and a decoder whose object queries each answer with a class and a box.

Carion et al. 2020, arXiv:2005.12872.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.blocks.detection import Memory
from anyformer.blocks.model import ImageModel, sides
from anyformer.blocks.stack import Stack
from anyformer.core import init as start
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.segments import Segments
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv
from anyformer.models.dense.boxes import BoxHead
from anyformer.models.dense.matching import SetLoss
from anyformer.models.dense.segmenter import body, channels
from anyformer.models.factory import model_spec

PAPERS = ("group_detr",)


class Predictions(NamedTuple):
    """Of every query: class scores `(b, n, classes + 1)`, the last for "no object", and boxes `(b, n, 4)`.

    Boxes are (centre x, centre y, width, height) as shares of the image. The queries are `groups` of the same size.
    """

    logits: Tensor
    boxes: Tensor
    groups: int = 1


class Detector(ImageModel):
    """Images to `(b, queries, 4 + scores)`: each query's box (centre x, centre y, width, height; shares), and scores.

    `loss` says how predictions and truth meet, and what the scores mean.
    """

    loss: SetLoss

    def predictions(self, images: Tensor, valid: Tensor | None = None) -> list[Predictions]:
        """What the queries say after every decoder layer; the last counts."""
        raise NotImplementedError

    def forward(
        self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None, *, layers: bool = False
    ) -> Float[Tensor, "b n outputs"] | list[Predictions]:
        """The last layer's answer as one tensor, in training those of all layers one after the other; or all apart.

        Args:
            images: padded at their ends to a common size.
            valid: true at pixels that are no padding; None: all.
            layers: whether to give a list, the `Predictions` of every layer, which a loss takes.
        """
        found = self.predictions(images, valid)
        if layers:
            return found
        answers = [torch.cat([p.boxes, p.logits], -1) for p in (found if self.training else found[-1:])]
        return torch.cat(answers, 1)


def check_valid(valid: Tensor | None, images: Tensor) -> None:
    """Raise `SizeError` unless `valid` has one value for every pixel."""
    if valid is not None and valid.shape != (len(images), *images.shape[2:]):
        raise SizeError(
            f"valid says of every pixel whether it is no padding, {(len(images), *images.shape[2:])}; "
            f"given {tuple(valid.shape)}."
        )


class DETR(Detector):
    """Backbone, 1x1 convolution, encoder, decoder over object queries, a class and a box for each.

    Carion et al. 2020, arXiv:2005.12872, section 3.2. Images `(b, in_channels, h, w)` of any size that the backbone
    takes. Cost beside the backbone: tokens^2 c a layer of the encoder, queries tokens c a layer of the decoder.

    Args:
        backbone: an image model, by its Spec or by a variant's name; only what `features` needs of it is built.
        layer: which of the backbone's maps is looked at, as its `features` takes it.
        dim: channels of tokens and queries.
        encoder, decoder: their blocks, e.g. Spec("detection_encoder", heads=8, ffn=...).
        encoder_depth, decoder_depth: how many.
        queries: most objects that can be found in an image.
        content: what queries start from: "zero" in DETR, so that the first layer's self-attention does nothing, or
            "learned" vectors beside their positions (DAB-DETR, arXiv:2201.12329).
        image_size, in_channels: what `example_inputs` gives; channels of the image.
        num_classes: classes, without "no object", which comes after them.
        drop_path: stochastic depth of the backbone; None for its own.
        dropout: in attention and residuals of encoder and decoder.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps.
        OptionError: no queries or classes.
        SizeError: `valid` of another size than the images.
    """

    name = "detr"
    papers = ("group_detr",)

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        layer: int = -1,
        dim: int = 256,
        encoder: Spec = Spec("detection_encoder", heads=8, ffn=Spec("mlp", hidden=2048, act=Spec("relu"))),
        decoder: Spec = Spec("detection_decoder", heads=8, ffn=Spec("mlp", hidden=2048, act=Spec("relu"))),
        encoder_depth: int = 6,
        decoder_depth: int = 6,
        queries: int = 100,
        content: Literal["zero", "learned"] = "zero",
        image_size: int | Sequence[int] = 800,
        in_channels: int = 3,
        num_classes: int = 91,
        drop_path: float | None = None,
        dropout: float = 0.1,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        if queries < 1 or num_classes < 1 or decoder_depth < 1:
            raise OptionError(
                f"{self.name} has at least one query, class and decoder block; given queries={queries}, "
                f"num_classes={num_classes}, decoder_depth={decoder_depth}."
            )
        self.layer, self.queries, self.num_classes = layer, queries, num_classes
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        given |= {} if drop_path is None else {"drop_path": drop_path}
        spec = body(backbone, (layer,), given, init)
        (inputs,) = channels(spec, (layer,), self.image_size, in_channels)
        self.backbone = build(spec, "model")
        self.project = StridedConv(inputs, dim, kernel=1, stride=1, what=self.name)
        self.position = build("sine_map", "position", dim=dim)
        self.encoder = Stack(encoder, encoder_depth, dim=dim, grid=(None,), dropout=dropout)
        self.decoder = Stack(decoder, decoder_depth, dim=dim, grid=(None,), dropout=dropout)
        self.norm = build("layernorm", "norm", dim=dim)
        rows = self.query_rows()
        self.query = nn.Parameter(torch.randn(rows, dim))
        self.content = nn.Parameter(torch.randn(rows, dim)) if content == "learned" else None
        self.classes = start.linear(dim, num_classes + 1)
        self.boxes = BoxHead(dim)
        self.loss = SetLoss()
        for part in (self.encoder, self.decoder):  # as published: arXiv:2005.12872, appendix A.4
            for weight in part.parameters():
                if weight.dim() > 1 and not weight.is_meta:
                    nn.init.xavier_uniform_(weight)

    def query_rows(self) -> int:
        """How many query vectors there are."""
        return self.queries

    def running_groups(self) -> int:
        """How many groups of queries answer now."""
        return 1

    def features(
        self, images: Float[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c h w"]]:
        """The backbone's map that the encoder reads, or its chosen maps."""
        return self.backbone.features(images, (self.layer,) if layers is None else layers)

    def encode(self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Memory:
        """The encoder's tokens `(b, h' w', c)` with their positions, and which of them are valid."""
        check_valid(valid, images)
        x = self.project(self.features(images)[0].movedim(1, -1))
        grid, segments = x.shape[1:-1], None
        seen = torch.ones(1, *grid, dtype=torch.bool, device=x.device)
        if valid is not None:
            seen = nn.functional.interpolate(valid[:, None].float(), size=tuple(grid))[:, 0] > 0.5
            segments = Segments.from_mask(seen)
        position = self.position.table(seen).flatten(1, 2).to(x.dtype)
        tokens = self.encoder(x.flatten(1, 2), segments, position)
        return Memory(tokens, position, None if segments is None else segments.flat().valid)

    def decode(self, memory: Memory) -> list[Float[Tensor, "b n c"]]:
        """The queries after every decoder layer, normed."""
        groups = self.running_groups()
        rows, size = groups * self.queries, len(memory.tokens)
        position = self.query[:rows].expand(size, -1, -1)
        x = torch.zeros_like(position) if self.content is None else self.content[:rows].expand(size, -1, -1)
        outputs = self.decoder.outputs(x.to(memory.tokens.dtype), range(len(self.decoder)), position, memory, groups)
        return [self.norm(y) for y in outputs]

    def predictions(
        self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None
    ) -> list[Predictions]:
        groups = self.running_groups()
        states = self.decode(self.encode(images, valid))
        return [Predictions(self.classes(x), self.boxes(x).sigmoid(), groups) for x in states]


def frozen(backbone: str) -> Spec:
    """A ResNet whose batch norms are fixed (arXiv:2005.12872, section 4)."""
    return model_spec(backbone).swap("norm", "frozen_batchnorm")


def small_block(kind: str) -> Spec:
    """A block of `detr_micro`."""
    return Spec(f"detection_{kind}", heads=4, ffn=Spec("mlp", ratio=2.0, act=Spec("relu")))


VARIANTS = {
    "detr_resnet50": Spec("detr", backbone=frozen("resnet50")),
    "detr_resnet101": Spec("detr", backbone=frozen("resnet101")),
    # Ours, for images of 32 to 128 pixels and for tests.
    "detr_micro": Spec(
        "detr",
        backbone=model_spec("resnet_micro").set(embed=Spec("pooled_stem", dim=32, kernels=3)),
        dim=64,
        encoder=small_block("encoder"),
        decoder=small_block("decoder"),
        encoder_depth=1,
        decoder_depth=2,
        queries=12,
        content="learned",
        image_size=64,
        num_classes=10,
        dropout=0.0,
        init="fan_in",
    ),
}
