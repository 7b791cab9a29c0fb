"""LW-DETR: a plain ViT, a projector, and a shallow decoder that samples, trained with groups of queries.

Chen et al. 2024, arXiv:2406.03459; its training is that of Group DETR, Chen et al. 2022, arXiv:2207.13085.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from anyformer.blocks.detection import Memory
from anyformer.blocks.model import sides
from anyformer.blocks.projector import ScaleProjector
from anyformer.blocks.stack import Stack
from anyformer.core import init as start
from anyformer.core.build import build
from anyformer.core.errors import OptionError, SizeError
from anyformer.core.init import Start, chooses_start
from anyformer.core.spec import Spec
from anyformer.layers.position.sine_map import sines
from anyformer.models.dense.boxes import BoxHead
from anyformer.models.dense.detr import Detector, Predictions, check_valid
from anyformer.models.dense.matching import SigmoidSetLoss
from anyformer.models.dense.segmenter import body, channels
from anyformer.models.factory import model_spec

PAPERS = ("group_detr",)

RARE = -math.log(99)
"""First bias of class scores: a probability of 0.01, so that the many that are nothing cost little (focal loss)."""


class Maps(NamedTuple):
    """The projected maps in a row: tokens `(b, m, c)`, grids, valid ones `(b, m)`, and valid shares `(b, l, 2)`."""

    tokens: Tensor
    grids: list[tuple[int, int]]
    valid: Tensor
    shares: Tensor


class Proposer(nn.Module):
    """A class and a box for every token of the maps, of which the best become a group's first boxes.

    Zhu et al. 2020 (Deformable DETR), arXiv:2010.04159, section 4.2 and appendix A.4, "two-stage".
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.project, self.norm = start.linear(dim, dim), build("layernorm", "norm", dim=dim)
        self.classes, self.boxes = start.linear(dim, num_classes), BoxHead(dim)
        answer_rarely(self.classes, self.boxes)

    def forward(self, maps: Maps, anchors: Float[Tensor, "b m 4"], count: int) -> tuple[Tensor, Tensor]:
        """The `count` proposals with the best score of any class: scores `(b, count, k)`, boxes `(b, count, 4)`."""
        there = maps.valid & ((anchors > 0.01) & (anchors < 0.99)).all(-1)
        x = self.norm(self.project(maps.tokens.masked_fill(~there[..., None], 0)))
        logits = self.classes(x)
        best = logits.amax(-1).masked_fill(~there, -math.inf).topk(count, 1).indices[..., None]
        boxes = refined(anchors.masked_fill(~there[..., None], 0), self.boxes(x))
        return tuple(t.gather(1, best.expand(-1, -1, t.shape[-1])) for t in (logits, boxes))  # type: ignore[return-value]


class LWDETR(Detector):
    """Backbone, projector, proposals, and a decoder whose queries sample the maps around their boxes.

    Chen et al. 2024, arXiv:2406.03459, sections 3.1 and 3.2. In training there are `groups` of queries and proposers,
    each matched by itself (Group DETR); in evaluation the first alone. Boxes are changed once, from the proposals, as
    shares of their own size ("lite" refinement). Cost beside the backbone: 3 tokens c^2 for the projector's least, and
    groups queries c^2 a decoder layer.

    Args:
        backbone: an image model, by its Spec or by a variant's name.
        layers: which of its maps, all of one size, are joined; as its `features` takes them.
        scales: how much finer than the backbone's map each of the decoder's is: 2.0, 1.0, 0.5.
        dim: channels of maps and queries.
        decoder: its block, e.g. Spec("deformable_decoder", heads=8, cross_heads=16); as many `levels` as scales.
        depth: decoder blocks.
        queries: most objects that can be found in an image.
        groups: groups of queries in training.
        anchor: sides of the boxes that proposals on the first map start from, as shares of the image.
        mixing: pairs of convolutions in the projector.
        image_size, in_channels: what `example_inputs` gives; channels of the image.
        num_classes: classes.
        drop_path: stochastic depth of the backbone; None for its own.
        dropout: in attention and residuals of the decoder.
        init: as `Isotropic`'s; a backbone that names its own keeps it.

    Raises:
        FitError: a backbone that gives no maps.
        OptionError: no queries, groups, classes, scales or blocks.
        SizeError: an image whose maps have fewer tokens than there are queries; `valid` of another size.
    """

    name = "lw_detr"
    papers = ("group_detr",)

    @chooses_start
    def __init__(
        self,
        *,
        backbone: Spec,
        layers: Sequence[int] = (-1,),
        scales: Sequence[float] = (1.0,),
        dim: int = 256,
        decoder: Spec = Spec("deformable_decoder", ffn=Spec("mlp", hidden=2048, act=Spec("relu"))),
        depth: int = 3,
        queries: int = 300,
        groups: int = 13,
        anchor: float = 0.05,
        mixing: int = 3,
        image_size: int | Sequence[int] = 640,
        in_channels: int = 3,
        num_classes: int = 91,
        drop_path: float | None = None,
        dropout: float = 0.0,
        init: Start = "published",
    ):
        super().__init__()
        self.image_size, self.in_channels = sides(image_size), in_channels
        if min(queries, groups, num_classes, depth, len(scales)) < 1:
            raise OptionError(
                f"{self.name} has at least one query, group, class, block and scale; given queries={queries}, "
                f"groups={groups}, num_classes={num_classes}, depth={depth}, scales={tuple(scales)}."
            )
        self.layers, self.queries, self.groups, self.num_classes = tuple(layers), queries, groups, num_classes
        self.anchor = anchor
        given = {"image_size": self.image_size, "in_channels": in_channels, "num_classes": 0}
        given |= {} if drop_path is None else {"drop_path": drop_path}
        spec = body(backbone, self.layers, given, init)
        dims = channels(spec, self.layers, self.image_size, in_channels)
        self.backbone = build(spec, "model")
        self.projectors = nn.ModuleList(ScaleProjector(dims, dim, scale=float(s), depth=mixing) for s in scales)
        self.proposers = nn.ModuleList(Proposer(dim, num_classes) for _ in range(groups))
        self.place = nn.Sequential(start.linear(2 * dim, dim), nn.ReLU(), start.linear(dim, dim))
        self.query = nn.Parameter(start.trunc_normal(torch.empty(groups * queries, dim), 1.0))
        self.shift = nn.Parameter(torch.zeros(groups * queries, 4))
        self.decoder = Stack(decoder.set(levels=len(scales)), depth, dim=dim, grid=(None,), dropout=dropout)
        self.norm = build("layernorm", "norm", dim=dim)
        self.classes, self.boxes = start.linear(dim, num_classes), BoxHead(dim)
        answer_rarely(self.classes, self.boxes)
        self.loss = SigmoidSetLoss(classes=2.0)

    def running_groups(self) -> int:
        """How many groups of queries answer now: all in training, one in evaluation."""
        return self.groups if self.training else 1

    def features(
        self, images: Float[Tensor, "b i h w"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c h w"]]:
        """The backbone's maps that are projected, or its chosen maps."""
        return self.backbone.features(images, self.layers if layers is None else layers)

    def project(self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Maps:
        """The maps that queries sample."""
        check_valid(valid, images)
        if valid is None:
            valid = torch.ones(len(images), *images.shape[2:], dtype=torch.bool, device=images.device)
        found = self.features(images)
        maps = [projector(found) for projector in self.projectors]
        grids = [(m.shape[1], m.shape[2]) for m in maps]
        seen = [nn.functional.interpolate(valid[:, None].float(), size=g)[:, 0] > 0.5 for g in grids]
        shares = [torch.stack([s[:, 0].float().mean(1), s[:, :, 0].float().mean(1)], -1) for s in seen]
        tokens = torch.cat([m.flatten(1, 2) for m in maps], 1)
        if tokens.shape[1] < self.queries:
            raise SizeError(
                f"{self.name} makes its {self.queries} queries from the tokens of the image, and this one of "
                f"{images.shape[2]}x{images.shape[3]} pixels has {tokens.shape[1]}: give larger images or "
                "fewer queries."
            )
        return Maps(tokens, grids, torch.cat([s.flatten(1) for s in seen], 1), torch.stack(shares, 1))

    def propose(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """Scores and boxes of all running groups' proposals: `(b, groups queries, k)` and `(b, groups queries, 4)`."""
        boxes = anchors(maps, self.anchor).to(maps.tokens.dtype)
        found = [self.proposers[g](maps, boxes, self.queries) for g in range(self.running_groups())]
        logits, places = zip(*found, strict=True)
        return torch.cat(logits, 1), torch.cat(places, 1)

    def decode(self, maps: Maps, proposals: Float[Tensor, "b n 4"]) -> tuple[list[Tensor], Tensor]:
        """The queries after every decoder layer, normed, and the boxes from which they answer."""
        groups = self.running_groups()
        rows = groups * self.queries
        boxes = refined(proposals.detach(), self.shift[:rows])
        shares = torch.cat([maps.shares, maps.shares], -1)
        reference = boxes[:, :, None] * shares[:, None].to(boxes.dtype)
        memory = Memory(maps.tokens, None, maps.valid, maps.grids, reference)
        position = self.place(coded(reference[:, :, 0], self.query.shape[1] // 2))
        x = self.query[:rows].expand(len(boxes), -1, -1).to(maps.tokens.dtype)
        states = self.decoder.outputs(x, range(len(self.decoder)), position, memory, groups)
        return [self.norm(y) for y in states], boxes

    def predictions(
        self, images: Float[Tensor, "b i h w"], valid: Bool[Tensor, "b h w"] | None = None
    ) -> list[Predictions]:
        """The proposals, then what the queries say after every decoder layer."""
        groups = self.running_groups()
        maps = self.project(images, valid)
        logits, places = self.propose(maps)
        states, boxes = self.decode(maps, places)
        answers = [Predictions(self.classes(x), refined(boxes, self.boxes(x)), groups) for x in states]
        return [Predictions(logits, places, groups), *answers]


def answer_rarely(classes: nn.Linear, boxes: BoxHead) -> None:
    """Heads that start with low scores and with the boxes that they are given."""
    nn.init.constant_(classes.bias, RARE)
    nn.init.zeros_(boxes.layers[-1].weight)


def refined(boxes: Float[Tensor, "*b 4"], change: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Boxes moved by shares of their sides and scaled by exponents (arXiv:2406.03459, equation 2)."""
    return torch.cat([change[..., :2] * boxes[..., 2:] + boxes[..., :2], change[..., 2:].exp() * boxes[..., 2:]], -1)


def anchors(maps: Maps, side: float) -> Float[Tensor, "b m 4"]:
    """A box around each token, as shares of the valid image: of this side on the first map, twice that on the next."""
    found = []
    for level, (h, w) in enumerate(maps.grids):
        rows, columns = torch.meshgrid(
            *((torch.arange(n, device=maps.tokens.device) + 0.5) / n for n in (h, w)), indexing="ij"
        )
        centres = torch.stack([columns, rows], -1).flatten(0, 1) / maps.shares[:, level, None]
        found.append(torch.cat([centres, torch.full_like(centres, side * 2**level)], -1))
    return torch.cat(found, 1)


def coded(boxes: Float[Tensor, "b n 4"], dim: int) -> Float[Tensor, "b n code"]:
    """Sines of a box's numbers, `dim` channels each: centre y, centre x, width, height."""
    return sines(boxes[..., (1, 0, 2, 3)] * 2 * math.pi, dim).flatten(-2).to(boxes.dtype)


def plain_vit(dim: int, depth: int, windowed: Sequence[int]) -> Spec:
    """A ViT of patches of 16 with attention inside a 4x4 splitting of the grid in the blocks `windowed`."""
    common = {"ffn": Spec("mlp"), "norm": Spec("layernorm", eps=1e-6), "residual": Spec("layer_scale", init=0.1)}
    window = Spec("prenorm", mixer=Spec("split_window", heads=12, splits=4, qkv_bias="qv"), **common)
    whole = Spec("prenorm", mixer=Spec("attention", heads=12, bias="qv"), **common)
    return Spec(
        "isotropic",
        dim=dim,
        depth=depth,
        embed=Spec("patch", size=16, rest="refuse"),
        position=Spec("learned", grid=(14, 14), offset=1, resize="cubic"),
        block=[window if i in windowed else whole for i in range(depth)],
    )


TEN = (0, 1, 3, 6, 7, 9)


def lw_detr(backbone: Spec, layers: Sequence[int], dim: int = 256, *, points: int = 2, **options) -> Spec:
    """An LW-DETR; its heads have 32 channels in self-attention and 16 where they sample."""
    block = Spec(
        "deformable_decoder", heads=dim // 32, cross_heads=dim // 16, points=points,
        ffn=Spec("mlp", hidden=2048, act=Spec("relu")),
    )  # fmt: skip
    return Spec("lw_detr", backbone=backbone, layers=layers, dim=dim, decoder=block, **options)


VARIANTS = {  # arXiv:2406.03459, table 1 and section 4.1; maps and heads as in the authors' scripts
    "lw_detr_tiny": lw_detr(plain_vit(192, 6, (0, 2, 4)), (1, 3, 5), queries=100),
    "lw_detr_small": lw_detr(plain_vit(192, 10, TEN), (2, 4, 5, 9)),
    "lw_detr_medium": lw_detr(plain_vit(384, 10, TEN), (2, 4, 5, 9)),
    "lw_detr_large": lw_detr(plain_vit(384, 10, TEN), (2, 4, 5, 9), 384, points=4, scales=(2.0, 0.5)),
    "lw_detr_xlarge": lw_detr(plain_vit(768, 10, TEN), (2, 4, 5, 9), 384, points=4, scales=(2.0, 0.5)),
    # Ours, for images of 32 to 128 pixels and for tests.
    "lw_detr_micro": lw_detr(
        model_spec("resnet_micro").set(embed=Spec("pooled_stem", dim=32, kernels=3)),
        (-1,),
        64,
        depth=2,
        queries=12,
        groups=3,
        anchor=0.25,
        mixing=1,
        image_size=64,
        num_classes=10,
        init="fan_in",
    ).replace("decoder.ffn.hidden", 128),
}
