"""Facial expressions: face crops with one of eight classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from anyformer.core.errors import OptionError
from anyformer.data.transforms import Augment
from anyformer.models.vision.fer_se_swin import EXPRESSIONS
from anyformer.tasks.classification import Files


class Expressions(Files):
    """Your face crops with their expressions; the metric is macro F1, as classes are far from equally frequent.

    Args:
        path: a folder `EXPRESSION/IMAGE`, or a CSV table of paths and labels; see the task `images`.
        classes: the expressions that there are; any other label is an error. By default AffectNet's eight.
        image_size, channels, on_error, seed, augment: as for `images`; faces are mirrored, and cropped by an eighth.

    Raises:
        DataError: a label that is none of the classes, an unreadable image, an empty class.
        OptionError: an expression named twice.
    """

    name = "expressions"
    metric = "f1"
    default_model = "fer_se_swin_micro"

    def __init__(
        self,
        path: str | Path,
        image_size: int = 64,
        channels: int = 3,
        on_error: Literal["raise", "skip"] = "raise",
        classes: Sequence[str] = EXPRESSIONS,
        seed: int = 0,
        augment: Augment | None = None,
    ):
        if len(set(classes)) < len(tuple(classes)):
            raise OptionError(f"each expression is named once; given {', '.join(classes)}.")
        super().__init__(path, image_size, channels, on_error, classes, seed, augment)


TASKS = {"expressions": Expressions}
