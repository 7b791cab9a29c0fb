"""Detect, crop, classify: a detector finds the face in a frame, a classifier sees the crop; and a rule for an alarm.

The driver drowsiness framework of 2022 with YOLOv5 and a ViT (see its card). Both stages are Specs: any detector of
`models.dense` and any image model fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from anyformer.blocks.model import ImageModel, sides
from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.registry import part_entry
from anyformer.core.spec import Spec, as_spec
from anyformer.models.dense.boxes import to_corners
from anyformer.models.dense.one_stage import VARIANTS as DETECTORS
from anyformer.models.factory import find
from anyformer.models.vision.vit import VARIANTS as VIT
from anyformer.models.vision.vit import vit

PAPERS = ("drowsiness_vit",)

LABELS = ("awake", "drowsy")
SURE = 1e-6
"""Probabilities of a detection stay this far from 0 and 1, so that their logarithms are numbers."""


class CropClassifier(ImageModel):
    """Frames `(b, in_channels, h, w)` to log-probabilities `(b, num_classes + 1)`: of each class, and last of "none".

    p(none) = 1 - s and p(class) = s softmax(logits of the crop), s the score of the detector's surest box. Whoever
    decides takes `decide`: without a detection the answer is none, and never a guess. Cost: the detector's on the frame
    and the classifier's on one crop.

    Args:
        detector: a detector (`predictions`, and `loss.scores`), by its Spec or a variant's name; all its classes count
            as the object.
        classifier: an image model, by its Spec or a variant's name; its `image_size` is the size of crops.
        margin: share of the box's sides that is added on each of them.
        threshold: least score of a detection.
        image_size, in_channels: what `example_inputs` gives; channels of frames.
        num_classes: classes of the classifier.
        init: as `Isotropic`'s; a stage that names its own keeps it.

    Raises:
        FitError: a detector that gives no boxes.
        OptionError: a threshold or margin outside its limits; no classes.
        SizeError: frames with another number of channels.
    """

    name = "crop_classifier"
    papers = ("drowsiness_vit",)

    @chooses_start
    def __init__(
        self,
        *,
        detector: Spec,
        classifier: Spec,
        margin: float = 0.1,
        threshold: float = 0.5,
        image_size: int | Sequence[int] = 640,
        in_channels: int = 3,
        num_classes: int = 2,
        init: Start = "published",
    ):
        super().__init__()
        if not 0 < threshold < 1 or margin < 0 or num_classes < 2:
            raise OptionError(
                f"{self.name} has a threshold between 0 and 1, a margin of 0 or more and two classes or more; given "
                f"threshold={threshold}, margin={margin}, num_classes={num_classes}."
            )
        self.image_size, self.in_channels = sides(image_size), in_channels
        self.margin, self.threshold = margin, threshold
        found = {"image_size": self.image_size, "in_channels": in_channels, "init": init}
        self.detector: Any = build(stage(detector, **found), "model")
        if not hasattr(self.detector, "predictions"):
            raise FitError(
                f"{self.name} takes a detector that gives boxes, such as one_stage_micro or detr_micro; given "
                f"{getattr(self.detector, 'name', type(self.detector).__name__)}."
            )
        seen = {"num_classes": num_classes, "in_channels": in_channels, "init": init}
        self.classifier: Any = build(stage(classifier, **seen), "model")

    def found(self, frames: Float[Tensor, "b i h w"]) -> Any:
        """The detector's last predictions. Raises `SizeError` for frames with another number of channels."""
        if frames.dim() != 4 or frames.shape[1] != self.in_channels:
            raise SizeError(
                f"{self.name} takes frames (b, {self.in_channels}, h, w); given a tensor of shape "
                f"{tuple(frames.shape)}."
            )
        return self.detector.predictions(frames)[-1]

    def detect(self, frames: Float[Tensor, "b i h w"]) -> tuple[Float[Tensor, "b 4"], Float[Tensor, "b"]]:
        """The surest box of every frame as corners in pixels (left, top, right, bottom), and its score."""
        last = self.found(frames)
        scores = self.detector.loss.scores(last.logits).amax(-1)
        score, which = scores.max(1)
        box = last.boxes.gather(1, which[:, None, None].expand(-1, 1, 4))[:, 0]
        size = torch.tensor([frames.shape[3], frames.shape[2]] * 2, device=box.device, dtype=box.dtype)
        return to_corners(box) * size, score

    def crops(self, frames: Float[Tensor, "b i h w"], boxes: Float[Tensor, "b 4"]) -> Float[Tensor, "b i H W"]:
        """What the classifier sees of these boxes."""
        return crop(frames, boxes, self.classifier.image_size, self.margin)

    def forward(
        self, frames: Float[Tensor, "b i h w"], boxes: Float[Tensor, "b 4"] | None = None
    ) -> Float[Tensor, "b classes"] | tuple[Any, Float[Tensor, "b classes"]]:
        """The answers; with `boxes` (corners in pixels), as in training, each stage's own.

        That is the detector's last `Predictions`, and the classifier's logits of these boxes' crops.
        """
        if boxes is not None:
            return self.found(frames), self.classifier(self.crops(frames, boxes))
        boxes, score = self.detect(frames)
        seen = self.classifier(self.crops(frames, boxes)).log_softmax(-1)
        score = score.clamp(SURE, 1 - SURE)[:, None].to(seen)
        return torch.cat([score.log() + seen, (1 - score).log()], 1)

    def decide(self, answers: Float[Tensor, "b classes"]) -> Tensor:
        """Class numbers `(b,)` of the answers of `forward`; the number of classes where nothing was detected."""
        none = answers[:, -1].exp() > 1 - self.threshold
        return answers[:, :-1].argmax(1).masked_fill(none, answers.shape[1] - 1)

    def features(
        self, frames: Float[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c h w"]]:
        """The classifier's maps of the crops."""
        return self.classifier.features(self.crops(frames, self.detect(frames)[0]), layers)


def stage(spec: Spec | str, **given: Any) -> Any:
    """The Spec of a stage with these options, where it knows them; an `init` of its own stays."""
    if not isinstance(spec, Spec | str):
        return spec
    whole = find(spec)[0] if isinstance(spec, str) else as_spec(spec, "model")
    known = part_entry(whole.name)["options"]
    return whole.set(**{k: v for k, v in given.items() if k in known and (k != "init" or k not in whole.options)})


def crop(
    frames: Float[Tensor, "b i h w"], boxes: Float[Tensor, "b 4"], size: Sequence[int], margin: float = 0.0
) -> Float[Tensor, "b i H W"]:
    """Cut a box out of every frame and resize it bilinearly: for whole pixels, slicing and `interpolate`.

    Boxes reach over a frame's edge with their margin, or by themselves; what lies outside is cut off. Gradients reach
    frames and boxes.

    Args:
        boxes: corners in pixels (left, top, right, bottom).
        size: height and width of the crops.
        margin: share of a box's sides that is added on each of them.

    Raises:
        SizeError: a box of no area, or one that lies outside of its frame.
    """
    height, width = frames.shape[2:]
    low, high = boxes[:, :2], boxes[:, 2:]
    extent = boxes.new_tensor([width, height])
    if not torch.compiler.is_compiling():
        bad = ~((high > low) & (high > 0) & (low < extent)).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise SizeError(
                f"the box {[round(v, 2) for v in boxes[row].tolist()]} of frame {row} has no area inside of the frame, "
                f"which spans (0, 0) to ({width}, {height}): give (left, top, right, bottom) in pixels."
            )
    wider = margin * (high - low)
    low = torch.maximum(low - wider, torch.zeros_like(extent))
    high = torch.minimum(high + wider, extent)
    axes = []
    for axis, (out, whole) in enumerate(((size[1], width), (size[0], height))):
        start, end = low[:, axis, None], high[:, axis, None]
        steps = (torch.arange(out, device=boxes.device, dtype=boxes.dtype) + 0.5) / out
        # The middles of the box's own pixels are the outermost that count: nothing beyond its edges is mixed in.
        places = start + steps * (end - start) - 0.5
        places = torch.minimum(torch.maximum(places, start), torch.maximum(end - 1, start))
        axes.append((2 * places + 1) / whole - 1)
    across, down = axes
    shape = (len(boxes), size[0], size[1])
    grid = torch.stack([across[:, None].expand(shape), down[:, :, None].expand(shape)], -1)
    return F.grid_sample(frames, grid.to(frames.dtype), mode="bilinear", padding_mode="border", align_corners=False)


def alarm(drowsy: Bool[Tensor, "n"], window: int = 30, share: float = 0.7) -> Bool[Tensor, "n"]:
    """After which frames of a video to wake the driver: those with at least this share of drowsy ones in the last few.

    Frames without a face are not drowsy. There is no alarm before a whole window has been seen.

    Args:
        drowsy: of each frame, in order.
        window: how many frames count.
        share: of them that are drowsy.

    Raises:
        OptionError: a window below 1, a share outside (0, 1].
    """
    if window < 1 or not 0 < share <= 1:
        raise OptionError(
            f"an alarm looks at a window of 1 frame or more for a share above 0 and up to 1; given window={window}, "
            f"share={share}."
        )
    counts = F.pad(drowsy.long().cumsum(0), (1, 0))
    inside = counts[window:] - counts[:-window]
    return F.pad(inside >= share * window, (min(window - 1, len(drowsy)), 0))[: len(drowsy)]


VARIANTS = {
    "drowsiness_vit": Spec(
        "crop_classifier",
        detector=DETECTORS["one_stage_resnet18"].set(num_classes=1),
        classifier=VIT["vit_tiny_patch16"],
    ),
    # Ours, for frames of 32 to 128 pixels and for tests.
    "drowsiness_vit_micro": Spec(
        "crop_classifier",
        detector=DETECTORS["one_stage_micro"].set(num_classes=1),
        classifier=vit(64, 4, 4, 4, ratio=2.0, head="mean", image_size=24),
        image_size=64,
        init="fan_in",
    ),
}
