"""A one-stage detector: every place of a backbone's map says what lies there and where its edges are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from anyformer.blocks.model import sides
from anyformer.core.build import build
from anyformer.core.errors import OptionError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec
from anyformer.layers.embedding.patch import StridedConv
from anyformer.models.dense.detr import Detector, Predictions, check_valid
from anyformer.models.dense.matching import SetLoss
from anyformer.models.dense.segmenter import body, channels
from anyformer.models.factory import model_spec

PAPERS = ("drowsiness_vit",)


class OneStageDetector(Detector):
    """Backbone, then a 3x3 and a 1x1 convolution: a class and a box for every place of the map, without queries.

    Boxes are read as YOLOv5's: the centre lies at (place + 2 sigmoid(t) - 0.5) / grid, up to half a place outside of
    its own, and sides are `anchor` (2 sigmoid(t))^2, up to four times the anchor (Jocher 2020, ultralytics/yolov5).
    Redmon et al. 2015, arXiv:1506.02640, section 2. Trained as a set (`matching.SetLoss`), so that an object has one
    answer and none has to be suppressed. Cost beside the backbone: places (9 dims + outputs) dims multiply-adds.

    Args:
        backbone: an image model, by its Spec or by a variant's name; only what `features` needs of it is built.
        layer: which of its maps is looked at.
        anchor: side of a usual object, as a share of the image.
        image_size, in_channels: what `example_inputs` gives; channels of the image.
        num_classes: classes, without "no object", which comes after them.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps.
        OptionError: no classes; an anchor that is no share.
        SizeError: `valid` of another size than the images.
    """

    name = "one_stage"
    papers = ("drowsiness_vit",)

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        layer: int = -1,
        anchor: float = 0.25,
        image_size: int | Sequence[int] = 640,
        in_channels: int = 3,
        num_classes: int = 80,
        init: Start = "published",
    ):
        super().__init__()
        if num_classes < 1 or not 0 < anchor <= 1:
            raise OptionError(
                f"{self.name} has a class or more, and an anchor above 0 and up to 1, a share of the image; given "
                f"num_classes={num_classes}, anchor={anchor}."
            )
        self.image_size, self.in_channels = sides(image_size), in_channels
        self.layer, self.anchor, self.num_classes = layer, anchor, num_classes
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        spec = body(backbone, (layer,), given, init)
        (dim,) = channels(spec, (layer,), self.image_size, in_channels)
        self.backbone = build(spec, "model")
        self.look = StridedConv(dim, dim, kernel=3, stride=1, padding=1, what=self.name)
        self.norm = build("batchnorm", "norm", dim=dim)
        self.answer = StridedConv(dim, 4 + num_classes + 1, kernel=1, stride=1, what=self.name)
        self.loss = SetLoss()

    def features(
        self, images: Float[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c h w"]]:
        """The backbone's map that is looked at, or its chosen maps."""
        return self.backbone.features(images, (self.layer,) if layers is None else layers)

    def predictions(
        self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None
    ) -> list[Predictions]:
        """One layer's answers; the boxes are shares of the valid part, which starts at the upper left."""
        check_valid(valid, images)
        x = self.norm(self.look(self.features(images)[0].movedim(1, -1))).relu()
        rows, columns = x.shape[1:-1]
        answers = self.answer(x).flatten(1, 2)
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1).to(x)
        size = torch.tensor([columns, rows], device=x.device, dtype=x.dtype)
        t = 2 * answers[..., :4].sigmoid()
        boxes = torch.cat([(places + t[..., :2] - 0.5) / size, self.anchor * t[..., 2:] ** 2], -1)
        if valid is not None:
            filled = torch.stack([valid[:, 0].float().mean(-1), valid[:, :, 0].float().mean(-1)], -1)
            boxes = boxes / filled.clamp(min=1e-6).repeat(1, 2)[:, None].to(x)
        return [Predictions(answers[..., 4:], boxes)]


VARIANTS = {
    "one_stage_resnet18": Spec("one_stage", backbone=model_spec("resnet18")),
    "one_stage_resnet50": Spec("one_stage", backbone=model_spec("resnet50")),
    # Ours, for images of 32 to 128 pixels and for tests: places of 8 pixels.
    "one_stage_micro": Spec(
        "one_stage",
        backbone=model_spec(
            "resnet_micro",
            embed=Spec("patch", size=3, stride=2, padding=1, dim=24),
            stages=[
                Spec("stage", inputs=24, dim=24, depth=1, block=Spec("basic_block")),
                Spec("stage", inputs=24, dim=48, depth=0, block=Spec("basic_block"),
                     downsample=Spec("basic_start", stride=2)),
                Spec("stage", inputs=48, dim=64, depth=1, block=Spec("basic_block"),
                     downsample=Spec("basic_start", stride=2)),
            ],
        ),
        image_size=64,
        num_classes=10,
        init="fan_in",
    ),
}  # fmt: skip
