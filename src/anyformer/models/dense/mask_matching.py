"""What predicted masks have to do with the truth: the one-to-one assignment with the most in common, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from anyformer.core.errors import DataError
from anyformer.models.dense.matching import Match, assign

NOWHERE = -1
"""The number of pixels that belong to no segment."""


class MaskPredictions(NamedTuple):
    """Of every query: class scores `(b, n, classes + 1)`, the last for "no object", and mask logits `(b, n, h, w)`.

    A softmax over the queries says whose a pixel is. `vectors` `(b, d, h, w)` are what the pixels are told apart by, of
    length 1.
    """

    logits: Tensor
    masks: Tensor
    vectors: Tensor

    def resized(self, size: Sequence[int], resize: Callable[[Tensor, Sequence[int]], Tensor]) -> MaskPredictions:
        """The same at another size."""
        return MaskPredictions(self.logits, resize(self.masks, size), resize(self.vectors, size))


class MaskTruth(NamedTuple):
    """Class numbers `(b, m)` of the images' segments, and which of its image's segments each pixel belongs to.

    `labels` are negative after an image's last segment; `segments` `(b, h, w)` are places in `labels`, or `NOWHERE`.
    """

    labels: Tensor
    segments: Tensor

    def at(self, size: Sequence[int]) -> MaskTruth:
        """At the size of masks that are coarser by a whole number: every so many-th pixel."""
        (h, w), (rows, columns) = self.segments.shape[1:], size
        return MaskTruth(self.labels, self.segments[:, :: -(-h // rows), :: -(-w // columns)])


class Overlap(NamedTuple):
    """Of every query and segment, `(b, n, m)`: how alike the masks are (Dice), and the class's probability."""

    masks: Tensor
    classes: Tensor


@dataclass(frozen=True)
class MaskSetLoss:
    """The loss over a set of masks after matching: classes, Dice, whose each pixel is, and pixels told apart.

    Wang et al. 2021 (MaX-DeepLab), arXiv:2012.00759, sections 3.2 and 3.3, with the changes of Yu et al. 2022,
    arXiv:2207.04044, section 4.1 and the authors' code. A segment is matched with the query for which (Dice of masks) x
    (probability of its class) is largest in total; one matching, that of the last prediction, serves all layers.
    Class losses are weighted by the Dice, Dice losses by the probability, so that what is right in one respect counts
    in the other (equations 6 to 8 of MaX-DeepLab).

    Attributes:
        classes, dice, pixels, apart: weights of the four.
        temperature: of the pixels' contrast.
        sampled: most pixels of an image that are told apart from one another; small segments are drawn more often.
        bias: power of one over a segment's size by which they are drawn.
    """

    classes: float = 3.0
    dice: float = 3.0
    pixels: float = 0.3
    apart: float = 1.0
    temperature: float = 0.3
    sampled: int = 4096
    bias: float = 1.5

    @torch.no_grad()
    def overlap(self, found: MaskPredictions, truth: MaskTruth) -> Overlap:
        """What queries and segments have in common; `truth` at the masks' size."""
        there = one_hot(truth)
        p = found.masks.float().softmax(1).flatten(2) * there.sum(1, keepdim=True)
        masks = 2 * p @ there.transpose(1, 2) / (p.sum(2)[:, :, None] + there.sum(2)[:, None] + 2e-5)
        labels = truth.labels.clamp(min=0)[:, None].expand(-1, p.shape[1], -1)
        return Overlap(masks, found.logits.float().softmax(-1).gather(2, labels))

    def match(self, overlap: Overlap, labels: Int[Tensor, "b m"]) -> list[Match]:
        """Which query is responsible for which segment, for each image.

        Raises `DataError` where an image has more segments than there are queries.
        """
        counts = (labels >= 0).sum(1).tolist()
        queries = overlap.masks.shape[1]
        if max(counts, default=0) > queries:
            raise DataError(
                f"an image has {max(counts)} segments, and the model finds at most {queries}: give it "
                f"queries={max(counts)} or more."
            )
        cost = -(overlap.masks * overlap.classes).cpu()
        return [assign(rows[:, :count]) for rows, count in zip(cost, counts, strict=True)]

    def total(self, found: Sequence[MaskPredictions], truth: MaskTruth) -> Tensor:
        """The sum over all predictions (the last counts for matching) of the weighted parts; a mean over images."""
        truth = truth.at(found[-1].masks.shape[2:])
        overlap = self.overlap(found[-1], truth)
        matches = self.match(overlap, truth.labels)
        return torch.stack([self.weighted(self.parts(one, truth, overlap, matches)) for one in found]).sum()

    def weighted(self, parts: dict[str, Tensor]) -> Tensor:
        """The weighted sum of `parts`."""
        return sum(getattr(self, name) * part for name, part in parts.items())  # type: ignore[return-value]

    def parts(
        self, found: MaskPredictions, truth: MaskTruth, overlap: Overlap, matches: Sequence[Match]
    ) -> dict[str, Tensor]:
        """The losses "classes", "dice", "pixels" and "apart", unweighted, each a mean over images.

        Args:
            truth: at the masks' size.
            overlap, matches: of the prediction that was matched.
        """
        logits, masks = found.logits.float(), found.masks.float()
        b, n, number = logits.shape
        image = torch.arange(b).repeat_interleave(torch.tensor([len(q) for q, _ in matches])).to(logits.device)
        query, which = (torch.cat(rows).to(logits.device) for rows in zip(*matches, strict=True))
        there = one_hot(truth)
        known = there.sum(1)
        p = masks.softmax(1).flatten(2)

        # Classes: a matched query's loss counts as much as its mask is right, that of another one as much of its mask
        # lies where nothing is known.
        wanted = torch.full((b, n), number - 1, device=logits.device)
        wanted[image, query] = truth.labels[image, which]
        weight = ((p * (1 - known)[:, None]).sum(2) / (p.sum(2) + 1e-5)).detach()
        weight[image, query] = overlap.masks[image, query, which]
        weight = weight.clamp(min=1e-5) * torch.where(wanted == number - 1, 0.25, 0.75)
        classes = (F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none") * weight).mean()

        inside = p * known[:, None]
        mine, theirs = inside[image, query], there[image, which]
        dice = 1 - (2 * (mine * theirs).sum(1) + 1) / (mine.sum(1) + theirs.sum(1) + 1)
        dice = 0.75 * (dice * overlap.classes[image, query, which].clamp(min=1e-5)).sum() / (n * b)

        owner = torch.full(truth.labels.shape, 0, device=logits.device)
        owner[image, which] = query
        segments = truth.segments.flatten(1)
        target = owner.gather(1, segments.clamp(min=0)).masked_fill(segments < 0, -100)
        per_pixel = F.cross_entropy(masks.flatten(2), target, reduction="none")
        pixels = (per_pixel.sum(1) / known.sum(1).clamp(min=1)).mean()
        return {"classes": classes, "dice": dice, "pixels": pixels, "apart": self.contrast(found.vectors, truth)}

    def contrast(self, vectors: Float[Tensor, "b d h w"], truth: MaskTruth) -> Tensor:
        """Cross-entropy of each pixel's likeness to the others against who shares its segment.

        MaX-DeepLab, arXiv:2012.00759, equation 13. Pixels of no segment do not take part.
        """
        there, x = one_hot(truth), vectors.float().flatten(2)
        known = there.sum(1)
        if self.sampled < known.shape[1]:
            sizes = (there * there.sum(2, keepdim=True)).sum(1).clamp(min=1)
            noise = -torch.empty_like(sizes).exponential_().log()  # Gumbel: a draw without replacement
            drawn = (noise - self.bias * sizes.log() - 1e5 * (1 - known)).topk(self.sampled, 1).indices[:, None]
            there, x = (t.gather(2, drawn.expand(-1, t.shape[1], -1)) for t in (there, x))
            known = there.sum(1)
        # The mean likeness to a segment's pixels is the likeness to their mean: one matrix of pixels by pixels will do.
        means = x @ there.transpose(1, 2) / there.sum(2).clamp(min=1)[:, None]
        own = (x * (means @ there)).sum(1) / self.temperature
        missing = (1e5 * (known - 1))[:, None].expand(-1, x.shape[2], -1)
        loss = torch.baddbmm(missing, x.transpose(1, 2) / self.temperature, x).logsumexp(2) - own
        return ((loss * known).sum(1) / known.sum(1).clamp(min=1)).mean()


def one_hot(truth: MaskTruth) -> Float[Tensor, "b m hw"]:
    """1 at the pixels of each segment."""
    number = truth.labels.shape[1]
    return F.one_hot(truth.segments.flatten(1) + 1, number + 1)[..., 1:].transpose(1, 2).float()
