"""How the authors name CoSwin's parameters and variants: as Swin's, and the convolutions beside attention."""

from __future__ import annotations

from anyformer.weights.mapping import table
from anyformer.weights.vision.swin import OFFICIAL as SWIN

BLOCK, OURS = "layers.{i}.blocks.{j}.", "stages.{i}.blocks.{j}."
OFFICIAL = table(
    (BLOCK + "conv.conv.0.{p}", OURS + "beside.widen.{p}"),
    (BLOCK + "conv.conv.2.{p}", OURS + "beside.narrow.{p}"),
    (BLOCK + "convInfluenceWeight", OURS + "beside.gate"),
    parent=SWIN,
)
SOURCES = {"official": OFFICIAL}
# Names of the published files.
NAMES = {
    "official": {
        f"checkpoint_coswin_{data}": (variant, {"num_classes": classes})
        for data, variant, classes in (
            ("CIFAR10", "coswin_32", 10),
            ("CIFAR100", "coswin_32", 100),
            ("MNIST", "coswin_32", 10),  # in three channels
            ("SVHN", "coswin_32", 10),
            ("TINY-IMAGENET", "coswin_64", 200),
        )
    },
}
