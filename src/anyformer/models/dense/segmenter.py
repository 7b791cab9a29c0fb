"""Any backbone with any decode head: a class for every pixel of an image or voxel of a volume.

The two meet in `features`: what a backbone gives as maps `(b, c, *grid)`, a head joins to scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anyformer.blocks.decode import resized
from anyformer.blocks.model import ImageModel, sides
from anyformer.blocks.padding import Rest, check_multiple, fill
from anyformer.core.build import build
from anyformer.core.errors import FitError, OptionError, SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.registry import index, part_class, part_entry
from anyformer.core.spec import Spec, as_spec
from anyformer.models.factory import model_spec

PAPERS = ()


class Segmenter(ImageModel):
    """Images `(b, in_channels, *size)` to scores `(b, num_classes, *size)`: backbone, norms, decode head, enlargement.

    Args:
        backbone: an image model, by its Spec or by a variant's name ("swin_micro"); only what `features` needs of it
            is built.
        head: from its maps to scores, e.g. Spec("mlp_decoder"), Spec("fpn_decoder"), Spec("dcfam").
        layers: which of the backbone's maps, as its `features` takes them: stages, or blocks of an isotropic one;
            None for those that it gives by itself.
        norm: norm of every map; None for backbones that norm their stages.
        align_corners: whether the corners of the scores are those of the image when they are enlarged, or the edges.
        multiple: sides of the image on which the backbone runs are multiples of this.
        rest: other images are filled up by reflection and the output is cut back ("reflect"), or raise `SizeError`.
        image_size: a number for square images, a tuple for others and for volumes.
        in_channels: channels of the image.
        num_classes: classes, the background among them.
        drop_path: stochastic depth of the backbone; None for its own.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps.
        OptionError: no classes; maps that the head does not join.
        SizeError: an image of another number of axes; one whose sides do not fit.
    """

    name = "segmenter"

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        head: Spec = Spec("mlp_decoder"),
        layers: Sequence[int] | None = None,
        norm: Spec | None = Spec("layernorm"),
        align_corners: bool = False,
        multiple: int = 1,
        rest: Rest = "reflect",
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        num_classes: int = 2,
        drop_path: float | None = None,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        if num_classes < 1:
            raise OptionError(f"{self.name} gives scores of at least one class; given num_classes={num_classes}.")
        check_multiple(self.image_size, multiple, rest, self.name)
        self.multiple, self.align_corners = multiple, align_corners
        self.rest: Rest = rest
        self.layers = None if layers is None else tuple(layers)
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        given |= {} if drop_path is None else {"drop_path": drop_path}
        spec = body(backbone, self.layers, given, init)
        dims = channels(spec, self.layers, self.image_size, in_channels)
        rank = len(self.image_size)
        self.backbone = build(spec, "model")
        self.norms = nn.ModuleList(build(norm, "norm", dim=dim) for dim in dims if norm is not None)
        self.head = build(head, "decode_head", dims=dims, num_classes=num_classes, rank=rank)

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """The backbone's maps, finest first, before the norms; of the image as it was filled up."""
        rank = len(self.image_size)
        if images.dim() != rank + 2:
            size = "x".join(["s"] * rank)
            raise SizeError(
                f"this model takes a batch of {'volumes' if rank == 3 else 'images'} (b, {self.in_channels}, {size}); "
                f"given a tensor of shape {tuple(images.shape)}."
            )
        filled = fill(images, self.multiple, self.rest, self.name)
        return self.backbone.features(filled, self.layers if layers is None else layers)

    def scores(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes *grid"]:
        """Scores at the resolution of the finest map, of the image as it was filled up."""
        maps = self.features(images)
        if len(self.norms):
            maps = [norm(m.movedim(1, -1)).movedim(-1, 1) for norm, m in zip(self.norms, maps, strict=True)]
        return self.head(maps)

    def forward(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b classes *size"]:
        scores = self.scores(images)
        size = images.shape[2:]
        whole = [-(-s // self.multiple) * self.multiple for s in size]
        scores = resized(scores, whole, align_corners=self.align_corners)
        return scores[(slice(None), slice(None), *(slice(s) for s in size))]


def body(backbone: Spec | str, layers: Sequence[int] | None, given: dict[str, Any], init: Start) -> Spec:
    """The backbone's Spec with these options, without what only its own head needs.

    Raises `FitError` for a model that gives no maps.
    """
    named = isinstance(backbone, str) and backbone in index()["variants"]
    spec = model_spec(backbone) if named else as_spec(backbone, "backbone")
    entry = part_entry(spec.name)
    if entry["kind"] != "model" or not issubclass(part_class(spec.name), ImageModel):
        raise FitError(f"a backbone is an image model, such as swin_tiny or vit_small; given {spec.name}.")
    known = entry["options"]
    given = dict(given)
    if spec.name == "pyramid":  # the norm of its last stage is its own head's
        given |= {"norm": None, "head": Spec("classifier")}
    elif layers is not None and "norm" in known:
        given["norm"] = None
    if "init" not in spec.options:
        given["init"] = init
    return spec.set(**{k: v for k, v in given.items() if k in known})


def channels(spec: Spec, layers: Sequence[int] | None, image_size: Sequence[int], in_channels: int) -> tuple[int, ...]:
    """Channels of the maps that a backbone gives, found without computing them."""
    with torch.device("meta"), torch.no_grad():
        maps = build(spec, "model").eval().features(torch.empty(1, in_channels, *image_size), layers)
    return tuple(m.shape[1] for m in maps)


def segmenter(backbone: str | Spec, head: str | Spec = "mlp_decoder", **options: Any) -> Spec:
    """The Spec of a segmenter: a backbone (a variant's name or a Spec) and a decode head."""
    whole = model_spec(backbone)
    return Spec("segmenter", backbone=whole, head=as_spec(head, "head"), **options)


VARIANTS = {
    # Ours, for images of 16 to 64 pixels and for tests.
    "segmenter_micro": segmenter(
        model_spec("convnext_micro").replace("embed.size", 2), Spec("fpn_decoder", dim=64), image_size=32, init="fan_in"
    ),
}
