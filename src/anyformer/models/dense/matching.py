"""What predictions have to do with truth: the cheapest one-to-one assignment, and the loss over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from anyformer.core.errors import DataError, require
from anyformer.models.dense.boxes import giou, to_corners


class Objects(NamedTuple):
    """The truth of one image: class numbers `(m,)`, and boxes `(m, 4)` as centre and size, shares of the image."""

    labels: Tensor
    boxes: Tensor


def padded(truth: Sequence[Objects]) -> tuple[Int[Tensor, "b m"], Float[Tensor, "b m 4"]]:
    """Class numbers and boxes of all images, with zeros after an image's last object."""
    labels = pad_sequence([objects.labels for objects in truth], batch_first=True)
    return labels, pad_sequence([objects.boxes for objects in truth], batch_first=True)


Match = tuple[Int[Tensor, "k"], Int[Tensor, "k"]]
"""Queries, in rising order, and the objects that they are responsible for."""


def assign(cost: Float[Tensor, "n m"]) -> Match:
    """The one-to-one assignment of rows to columns with the least total cost (Kuhn 1955), on the CPU; n m^2 steps."""
    rows, columns = require("scipy.optimize", "vision").linear_sum_assignment(cost.numpy())
    return torch.as_tensor(rows), torch.as_tensor(columns)


@dataclass(frozen=True)
class SetLoss:
    """DETR's loss over a set of predictions: softmax classes, L1 and generalized IoU of boxes.

    Carion et al. 2020, arXiv:2005.12872, equations 1 and 2. Every object is matched with the query that answers it at
    the least cost, w_c (-p(class)) + w_l L1 + w_g (-GIoU); the others should say "no object".

    Attributes:
        classes, l1, giou: weights w of the three, in matching and in the loss.
        no_object: weight of "no object" in the cross-entropy, as most queries answer so.
    """

    classes: float = 1.0
    l1: float = 5.0
    giou: float = 2.0
    no_object: float = 0.1

    def class_cost(self, logits: Float[Tensor, "b n k"]) -> Float[Tensor, "b n k"]:
        """What it costs a query to be responsible for an object of each class."""
        return -logits.softmax(-1)

    def class_loss(self, logits: Float[Tensor, "b n k"], target: Int[Tensor, "b n"], count: float) -> Tensor:
        """From the class that every query should have; the last one is "no object"."""
        weight = torch.ones(logits.shape[-1], device=logits.device)
        weight[-1] = self.no_object
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), weight)

    def scores(self, logits: Float[Tensor, "b n k"]) -> Float[Tensor, "b n classes"]:
        """Probabilities of the classes, without "no object"."""
        return logits.softmax(-1)[..., :-1]

    def nothing(self, logits: Tensor) -> int:
        """The number of "no object"."""
        return logits.shape[-1] - 1

    @torch.no_grad()
    def match(
        self, logits: Float[Tensor, "b n k"], boxes: Float[Tensor, "b n 4"], truth: Sequence[Objects]
    ) -> list[Match]:
        """Which query is responsible for which object, for each image.

        Raises `DataError` where an image has more objects than there are queries.
        """
        counts = [len(objects.labels) for objects in truth]
        if max(counts, default=0) > logits.shape[1]:
            raise DataError(
                f"an image has {max(counts)} objects, and the model finds at most {logits.shape[1]}: "
                f"give it queries={max(counts)} or more."
            )
        labels, places = padded(truth)
        boxes = boxes.float()
        cost = self.class_cost(logits.float()).gather(2, labels[:, None].expand(-1, logits.shape[1], -1))
        cost = self.classes * cost - self.giou * giou(to_corners(boxes)[:, :, None], to_corners(places)[:, None])
        cost = (cost + self.l1 * torch.cdist(boxes, places, p=1)).cpu()
        return [assign(rows[:, :count]) for rows, count in zip(cost, counts, strict=True)]

    def parts(
        self,
        logits: Float[Tensor, "b n k"],
        boxes: Float[Tensor, "b n 4"],
        truth: Sequence[Objects],
        count: float | None = None,
    ) -> dict[str, Tensor]:
        """The losses "classes", "l1" and "giou", unweighted, the last two per object.

        Args:
            count: objects to divide by; None: those of `truth`, at least one.
        """
        logits, boxes = logits.float(), boxes.float()
        count = max(sum(len(t.labels) for t in truth), 1) if count is None else count
        matches = self.match(logits, boxes, truth)
        target = torch.full(logits.shape[:2], self.nothing(logits), device=logits.device)
        counts = torch.tensor([len(queries) for queries, _ in matches])
        image = torch.arange(len(matches)).repeat_interleave(counts).to(logits.device)
        query, which = (torch.cat(rows).to(logits.device) for rows in zip(*matches, strict=True))
        labels, places = padded(truth)
        target[image, query] = labels[image, which]
        chosen, wanted = boxes[image, query], places[image, which]
        return {
            "classes": self.class_loss(logits, target, count),
            "l1": (chosen - wanted).abs().sum() / count,
            "giou": (1 - giou(to_corners(chosen), to_corners(wanted))).sum() / count,
        }

    def total(
        self, logits: Tensor, boxes: Tensor, truth: Sequence[Objects], groups: int = 1, count: float | None = None
    ) -> Tensor:
        """The weighted sum of `parts`; of `groups` of queries, each matched by itself, the mean.

        Chen et al. 2022 (Group DETR), arXiv:2207.13085, section 3.2.
        """
        # Groups stand beside the images, and the truth of an image is that of each of its groups: as every group has as
        # many matches, the mean over all of them is the mean of the groups' losses.
        apart = [t.unflatten(1, (groups, -1)).flatten(0, 1) for t in (logits, boxes)]
        count = max(sum(len(t.labels) for t in truth), 1) if count is None else count
        found = self.parts(*apart, [objects for objects in truth for _ in range(groups)], count * groups)
        return self.classes * found["classes"] + self.l1 * found["l1"] + self.giou * found["giou"]


class SigmoidSetLoss(SetLoss):
    """The same with a probability of its own for every class, and focal loss, without a class for "no object".

    Zhu et al. 2020 (Deformable DETR), arXiv:2010.04159, appendix A.4, with focal loss of Lin et al. 2017,
    arXiv:1708.02002, equation 5, alpha 0.25 and gamma 2.
    """

    alpha = 0.25

    def class_cost(self, logits: Float[Tensor, "b n k"]) -> Float[Tensor, "b n k"]:
        p = logits.sigmoid()
        right = -self.alpha * (1 - p) ** 2 * F.logsigmoid(logits)
        wrong = -(1 - self.alpha) * p**2 * F.logsigmoid(-logits)
        return right - wrong

    def class_loss(self, logits: Float[Tensor, "b n k"], target: Int[Tensor, "b n"], count: float) -> Tensor:
        wanted = F.one_hot(target, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        p = logits.sigmoid()
        missed = p * (1 - wanted) + (1 - p) * wanted
        weight = self.alpha * wanted + (1 - self.alpha) * (1 - wanted)
        return (weight * missed**2 * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / count

    def scores(self, logits: Float[Tensor, "b n k"]) -> Float[Tensor, "b n classes"]:
        return logits.sigmoid()

    def nothing(self, logits: Tensor) -> int:
        return logits.shape[-1]
