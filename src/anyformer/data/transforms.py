"""Augmentations of image batches `(b, c, h, w)`: a few tensor lines each, drawn per sample from `data.seeds`.

Each function takes the samples' seeds `(b,)`, so what happens to an image does not depend on the batch around it.
MixUp and CutMix mix neighbours in the batch (0 with 1, 2 with 3, ...): cutting a batch into pieces of even size
changes nothing either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anyformer.core.errors import OptionError, SizeError, UnknownName, require, suggest
from anyformer.core.spec import Spec, as_spec
from anyformer.data.seeds import uniform

CROP_ROW, CROP_COLUMN, FLIP, ERASE, ERASE_AREA, ERASE_SHAPE, ERASE_ROW, ERASE_COLUMN = range(8)
BRIGHTNESS, CONTRAST, SATURATION, MIX_SHARE, MIX_ROW, MIX_COLUMN = range(8, 14)
"""Streams of random numbers: one per decision, so that switching one augmentation on leaves the others as they were."""


def _per_image(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)[:, None, None, None]


def crop(images: Tensor, seeds: Tensor, padding: int) -> Tensor:
    """Pad by `padding` pixels of zeros and cut the old size out at a random place."""
    b, _, h, w = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    span = 2 * padding + 1
    rows = (uniform(seeds, CROP_ROW) * span).long()[:, None] + torch.arange(h)
    columns = (uniform(seeds, CROP_COLUMN) * span).long()[:, None] + torch.arange(w)
    cut = padded[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (b, h, w, c)
    return cut.permute(0, 3, 1, 2).contiguous()


def flip(images: Tensor, seeds: Tensor, chance: float = 0.5) -> Tensor:
    """Mirror left and right with this chance."""
    return torch.where((uniform(seeds, FLIP) < chance)[:, None, None, None], images.flip(-1), images)


def _boxes(height: int, width: int, box_h: Tensor, box_w: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """`(b, h, w)`: true inside boxes of `box_h` by `box_w` pixels, placed at fractions `y`, `x` of the free room."""
    top = (y * (height - box_h + 1)).floor()
    left = (x * (width - box_w + 1)).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < (top + box_h)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + box_w)[:, None])
    return in_rows[:, :, None] & in_columns[:, None, :]


def erase(images: Tensor, seeds: Tensor, chance: float = 0.25, area: tuple[float, float] = (0.02, 0.33)) -> Tensor:
    """Set a random box to zero with this chance; its area is this fraction of the image, its aspect 0.3 to 3.3.

    Zhong et al. 2017, "Random erasing data augmentation", arXiv:1708.04896, algorithm 1, with the mean (0) as value.
    """
    h, w = images.shape[-2:]
    size = h * w * (area[0] + (area[1] - area[0]) * uniform(seeds, ERASE_AREA))
    aspect = 0.3 * (1 / 0.09) ** uniform(seeds, ERASE_SHAPE)
    box_h = (size * aspect).sqrt().round().clamp(1, h)
    box_w = (size / aspect).sqrt().round().clamp(1, w)
    box = _boxes(h, w, box_h, box_w, uniform(seeds, ERASE_ROW), uniform(seeds, ERASE_COLUMN))
    hit = box & (uniform(seeds, ERASE) < chance)[:, None, None]
    return images.masked_fill(hit[:, None], 0)


def jitter(images: Tensor, seeds: Tensor, strength: float) -> Tensor:
    """Change brightness, contrast and saturation by factors in [1 - strength, 1 + strength]; images have mean 0."""
    brightness, contrast, saturation = (
        _per_image(1 + strength * (2 * uniform(seeds, stream) - 1), images)
        for stream in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    images = images + (brightness - 1)
    images = torch.lerp(images.mean((1, 2, 3), keepdim=True).expand_as(images), images, contrast)
    return torch.lerp(images.mean(1, keepdim=True).expand_as(images), images, saturation)


def neighbours(size: int) -> Tensor:
    """`(size,)`: each sample's partner, 0 with 1, 2 with 3; the last of an odd batch stands alone."""
    return (torch.arange(size) ^ 1).clamp(max=size - 1)


def _beta(seeds: Tensor, alpha: float) -> Tensor:
    """`(b,)` from Beta(alpha, alpha), by the inverse of its distribution function."""
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, uniform(seeds, MIX_SHARE).numpy()))


def mixup(images: Tensor, seeds: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend neighbours: the images, and each one's own share `(b,)` in its blend, from Beta(alpha, alpha).

    Zhang et al. 2017, "mixup: Beyond empirical risk minimization", arXiv:1710.09412, equation 1.
    """
    share = _beta(seeds, alpha).float()
    partners = images[neighbours(len(images))]
    return torch.lerp(partners, images, _per_image(share, images).expand_as(images)), share


def cutmix(images: Tensor, seeds: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Paste a box of the neighbour: the images, and the share `(b,)` of pixels that stayed each one's own.

    Yun et al. 2019, "CutMix", arXiv:1905.04899, equations 1 and 2; the box lies wholly inside the image.
    """
    h, w = images.shape[-2:]
    side = (1 - _beta(seeds, alpha)).sqrt()
    box = _boxes(h, w, (side * h).round(), (side * w).round(), uniform(seeds, MIX_ROW), uniform(seeds, MIX_COLUMN))
    mixed = torch.where(box[:, None], images[neighbours(len(images))], images)
    return mixed, 1 - box.float().mean((1, 2))


@dataclass(frozen=True)
class Augment:
    """What happens to a training image, in this order; zero leaves a step out.

    Attributes:
        jitter: strength of changes of brightness, contrast and saturation, below 1.
        crop: pixels of padding before a random crop of the old size.
        flip: chance of mirroring left and right.
        erase: chance of setting a random box to zero.
        others: augmentations of kornia by the names of their classes, after all of the above, such as
            Spec("RandomRotation", degrees=15.0) or "RandomPerspective"; needs the extra [augment].
    """

    jitter: float = 0.0
    crop: int = 0
    flip: float = 0.0
    erase: float = 0.0
    others: Sequence[Spec | str] = ()

    def __post_init__(self) -> None:
        for option, top in (("jitter", 1), ("flip", 1), ("erase", 1), ("crop", None)):
            value = getattr(self, option)
            if not value >= 0 or (top is not None and value > top):
                limit = "0 or more pixels" if top is None else f"0 to {top}"
                raise OptionError(f"augment.{option} takes {limit}; given {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for logs and checkpoints."""
        return {**dataclasses.asdict(self), "others": [as_spec(o).to_dict() for o in self.others]}

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        if self.jitter:
            images = jitter(images, seeds, self.jitter)
        if self.crop:
            images = crop(images, seeds, self.crop)
        if self.flip:
            images = flip(images, seeds, self.flip)
        if self.erase:
            images = erase(images, seeds, self.erase)
        for other in self.others:
            images = kornia(images, seeds, as_spec(other, "augment.others"))
        return images


def kornia(images: Float[Tensor, "b c h w"], seeds: Int[Tensor, "b"], spec: Spec) -> Float[Tensor, "b c h w"]:
    """An augmentation of kornia on each image, drawn by the image's own seed.

    Raises `UnknownName` for a class that kornia.augmentation does not have, `OptionError` for what it does not take.
    """
    library = require("kornia.augmentation", "augment")
    known = [n for n in dir(library) if n.startswith("Random") or n in ("ColorJiggle", "ColorJitter", "CenterCrop")]
    if spec.name not in known:
        raise UnknownName(f"kornia.augmentation has no {spec.name!r}; {suggest(spec.name, known)}")
    try:
        change = getattr(library, spec.name)(**spec.options)
    except TypeError as error:
        raise OptionError(f"{spec.name} of kornia: {error}.") from error
    changed = []
    for image, seed in zip(images, seeds.tolist(), strict=True):
        with torch.random.fork_rng(devices=[]):  # kornia draws from torch's own stream
            torch.manual_seed(seed)
            changed.append(change(image[None]))
    result = torch.cat(changed)
    if result.shape != images.shape:
        raise SizeError(f"{spec.name} of kornia changes images {tuple(images.shape[1:])} to {tuple(result.shape[1:])}.")
    return result
