"""kMaX-DeepLab: object queries as cluster centres that take in the pixels they are nearest to.

Yu et al. 2022, arXiv:2207.04044.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.decode import ConvNorm
from anyformer.blocks.model import ImageModel, sides
from anyformer.blocks.taps import tapping
from anyformer.core import init as start
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec
from anyformer.layers.attention.axial.position_sensitive import NORM
from anyformer.models.dense.kmax_decoder import KMeansDecoderLayer, MaskPredictor
from anyformer.models.dense.kmax_pixels import GELU, PixelDecoder, enlarged
from anyformer.models.dense.mask_matching import MaskPredictions, MaskSetLoss
from anyformer.models.dense.segmenter import body
from anyformer.models.factory import model_spec

PAPERS = ("kmax_deeplab",)


class MaskSegmenter(ImageModel):
    """Images to a set of masks with classes. `loss` says how predictions and truth meet."""

    loss: MaskSetLoss

    def predictions(self, images: Tensor) -> list[MaskPredictions]:
        """What the queries say after every decoder layer, at one size; the last counts."""
        raise NotImplementedError

    def forward(
        self, images: Float[Tensor, "b i h w"], *, layers: bool = False
    ) -> Float[Tensor, "b n outputs"] | list[MaskPredictions]:
        """Of every query its class scores (the last for "no object") and its mask's logits, row by row, as one tensor.

        In training the answers of all layers come one after the other.

        Args:
            layers: whether to give a list, the `MaskPredictions` of every layer, which a loss takes.
        """
        found = self.predictions(images)
        if layers:
            return found
        answers = [torch.cat([p.logits, p.masks.flatten(2)], -1) for p in (found if self.training else found[-1:])]
        return torch.cat(answers, 1)


class KMaXDeepLab(MaskSegmenter):
    """Backbone, pixel decoder, and decoder layers whose centres cluster its maps, coarsest first; masks at the finest.

    Yu et al. 2022, arXiv:2207.04044, section 3. Images `(b, in_channels, h, w)` of any size that the backbone takes.
    The authors' auxiliary loss of a semantic head, which is thrown away after training, is left out. Cost beside the
    backbone: that of the pixel decoder's blocks, and of a `KMeansDecoderLayer` for each layer.

    Args:
        backbone: an image model, by its Spec or by a variant's name; only what `features` needs of it is built.
        maps: which of its maps the pixel decoder reads, finest first, as its `features` takes them.
        stem: a module of the backbone whose output `(b, h, w, c)` is read as one more map, before the first ("embed").
        widths, depths, mixers: the pixel decoder's, coarsest first; see `PixelDecoder`.
        decoder_depths: decoder layers on each of its outputs, coarsest first; outputs after these have none.
        queries: most segments that can be found in an image.
        dim, heads, hidden: of centres, of their self-attention and of their MLP.
        mask_dim: channels of the products that give masks.
        sharpness: first deviation of the masks' logits; from the published one, short training does not get far.
        norm: norm behind convolutions.
        image_size, in_channels: what `example_inputs` gives; channels of the image.
        num_classes: classes, without "no object", which comes after them.
        drop_path: stochastic depth of the decoder layers.
        backbone_drop_path: of the backbone; None for its own.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps.
        OptionError: no queries, classes or decoder layers, and lists whose lengths do not fit the maps.
        SizeError: maps that do not come finest first.
    """

    name = "kmax_deeplab"
    papers = ("kmax_deeplab",)

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        maps: Sequence[int] = (0, 1, 2, 3),
        stem: str | None = None,
        widths: Sequence[int] = (512, 256, 128, 64),
        depths: Sequence[int] = (1, 5, 1, 1),
        mixers: Sequence[Spec | None] = (
            Spec("position_sensitive_axial", heads=8),
            Spec("position_sensitive_axial", heads=8),
            None,
            None,
        ),
        decoder_depths: Sequence[int] = (2, 2, 2),
        queries: int = 128,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        mask_dim: int = 128,
        sharpness: float = 0.1,
        norm: Spec = NORM,
        image_size: int | Sequence[int] = 1281,
        in_channels: int = 3,
        num_classes: int = 133,
        drop_path: float = 0.0,
        backbone_drop_path: float | None = None,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        if queries < 1 or num_classes < 1 or sum(decoder_depths) < 1 or len(decoder_depths) > len(widths):
            raise OptionError(
                f"{self.name} has at least one query, class and decoder layer, and layers on maps that there are; "
                f"given queries={queries}, num_classes={num_classes}, decoder_depths={tuple(decoder_depths)} for "
                f"{len(widths)} maps."
            )
        self.maps, self.stem, self.queries, self.num_classes = tuple(maps), stem, queries, num_classes
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        given |= {} if backbone_drop_path is None else {"drop_path": backbone_drop_path}
        spec = body(backbone, self.maps, given, init)
        self.backbone = build(spec, "model")
        dims = map_channels(spec, self.maps, stem, self.image_size, in_channels)
        self.pixels = PixelDecoder(dims, widths=widths, depths=depths, mixers=mixers, norm=norm)
        common = {"mask_dim": mask_dim, "num_classes": num_classes, "norm": norm, "sharpness": sharpness}
        self.decoder_depths = tuple(decoder_depths)
        self.decoder = nn.ModuleList(
            KMeansDecoderLayer(4 * width, dim, heads=heads, hidden=hidden, drop_path=drop_path, **common)
            for width, depth in zip(widths, decoder_depths, strict=False)
            for _ in range(depth)
        )
        self.centres = nn.Parameter(start.trunc_normal(torch.empty(queries, dim), 1.0))
        self.for_classes, self.for_masks = (ConvNorm(dim, dim, kernel=1, norm=norm, act=GELU, rank=1) for _ in range(2))
        self.predict = MaskPredictor(4 * widths[-1], dim, **common)
        self.loss = MaskSetLoss()

    def features(
        self, images: Float[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c h w"]]:
        """The maps that the pixel decoder reads, finest first, or chosen maps of the backbone."""
        if layers is not None:
            return self.backbone.features(images, layers)
        return backbone_maps(self.backbone, images, self.maps, self.stem)

    def decode(self, maps: Sequence[Float[Tensor, "b c h w"]]) -> list[MaskPredictions]:
        """From the backbone's maps, finest first, to what the centres say after every layer and at the end."""
        pixels = self.pixels(maps)
        centres, found = self.centres.expand(len(maps[0]), -1, -1).to(pixels[0].dtype), []
        layers = iter(self.decoder)
        for one, depth in zip(pixels, self.decoder_depths, strict=False):
            for _ in range(depth):
                centres, said = next(layers)(centres, one)
                found.append(said)
        last = self.predict(self.for_classes(centres), self.for_masks(centres), pixels[-1])
        size = last.masks.shape[2:]
        return [*(p.resized(size, enlarged) for p in found), last]

    def predictions(self, images: Float[Tensor, "b i h w"]) -> list[MaskPredictions]:
        return self.decode(self.features(images))


def backbone_maps(backbone: Any, images: Tensor, maps: Sequence[int], stem: str | None) -> list[Tensor]:
    """Chosen maps `(b, c, h, w)` of a backbone, before them the output of its module `stem`, if one is asked for."""
    if stem is None:
        return backbone.features(images, maps)
    with tapping(backbone, [stem]) as found:
        chosen = backbone.features(images, maps)
    return [found[stem].movedim(-1, 1), *chosen]


def map_channels(
    spec: Spec, maps: Sequence[int], stem: str | None, image_size: Sequence[int], in_channels: int
) -> tuple[int, ...]:
    """Channels of these maps, found without computing them."""
    with torch.device("meta"), torch.no_grad():
        backbone = build(spec, "model").eval()
        found = backbone_maps(backbone, torch.empty(1, in_channels, *image_size), maps, stem)
    return tuple(m.shape[1] for m in found)


def resnet() -> Spec:
    """The authors' ResNet-50, whose batch norms are those of the decoders."""
    return model_spec("resnet50").swap("norm", NORM)


def convnext(size: str) -> Spec:
    """A ConvNeXt on grids of a pixel more than whole patches."""
    spec = model_spec(f"convnext_{size}")
    stages = [
        stage if stage["downsample"] is None else stage.set(downsample=Spec("odd_conv", norm_before=LAYER_NORM))
        for stage in spec["stages"]
    ]
    return spec.set(embed=Spec("odd_patch", size=4, norm=LAYER_NORM), stages=stages)


def kmax(backbone: Spec, drop_path: float = 0.2, backbone_drop_path: float | None = None, **options: Any) -> Spec:
    """As published for COCO (table 1 of the paper and the authors' configurations)."""
    rate = {} if backbone_drop_path is None else {"backbone_drop_path": backbone_drop_path}
    return Spec("kmax_deeplab", backbone=backbone, drop_path=drop_path, **rate, **options)


LAYER_NORM = Spec("layernorm", eps=1e-6)
AXIAL = Spec("position_sensitive_axial", heads=8)
ADE20K = {"num_classes": 150}
CITYSCAPES = {
    "image_size": (1025, 2049),
    "num_classes": 19,
    "queries": 256,
    "stem": "embed",
    "widths": (512, 256, 128, 64, 32),
    "depths": (1, 5, 1, 1, 1),
    "mixers": (AXIAL, AXIAL, None, None, None),
}

VARIANTS = {
    "kmax_resnet50": kmax(resnet()),
    "kmax_convnext_tiny": kmax(convnext("tiny"), backbone_drop_path=0.3),
    "kmax_convnext_small": kmax(convnext("small"), backbone_drop_path=0.4),
    "kmax_convnext_base": kmax(convnext("base"), backbone_drop_path=0.5),
    "kmax_convnext_large": kmax(convnext("large"), backbone_drop_path=0.6),
    "kmax_resnet50_ade20k": kmax(resnet(), 0.0, **ADE20K),
    "kmax_convnext_large_ade20k": kmax(convnext("large"), 0.0, 0.7, **ADE20K),
    "kmax_resnet50_cityscapes": kmax(resnet(), **CITYSCAPES),
    "kmax_convnext_large_cityscapes": kmax(convnext("large"), backbone_drop_path=0.6, **CITYSCAPES),
    # Ours, for images of 32 to 64 pixels and for tests.
    "kmax_micro": Spec(
        "kmax_deeplab",
        backbone=model_spec("resnet_micro").set(embed=Spec("patch", dim=32, size=2, norm=Spec("batchnorm"))),
        maps=(0, 1),
        widths=(16, 12),
        depths=(1, 1),
        mixers=(Spec("position_sensitive_axial", heads=4, span=64), None),
        decoder_depths=(1, 1),
        queries=8,
        dim=32,
        heads=4,
        hidden=64,
        mask_dim=32,
        sharpness=2.0,
        norm=Spec("batchnorm"),
        image_size=32,
        num_classes=4,
        init="fan_in",
    ),
}
