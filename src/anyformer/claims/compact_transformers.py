"""Compact Transformers: on few images, do convolutions as tokenizer and pooling over the sequence help a small ViT?

300 digits of 8x8 pixels, 16 tokens each, shifted by up to a pixel in training. All three models share the body, the
number of steps and the learning rate.
"""

from __future__ import annotations

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect
from anyformer.models.vision.compact_transformers import POSITIONS, compact

CLAIM = Claim(
    statement="On few images a convolutional tokenizer beats patches; sequence pooling is no worse than a class token.",
    baseline="ViT-Lite: the same body on patches of 2x2 with a class token; equal size, equal epochs.",
    expect=(
        Expect("cct_gain", at_least=0.02, unit="accuracy, CCT over ViT-Lite"),
        Expect("pooling_gain", at_least=0.0, unit="accuracy, CVT over ViT-Lite"),
    ),
)
PATCHES = Spec("patch", size=2)
EMBEDS = {"cct": Spec("conv_tokenizer"), "cvt": PATCHES, "vit_lite": PATCHES}


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of the three after training on 300 digits."""
    task = images_task(digits_at(8, seed, train_images=300), classes=10, crop=1)
    found = {}
    for name, embed in EMBEDS.items():
        pool = "class" if name == "vit_lite" else "sequence"
        spec = compact(64, 4, 4, embed, ratio=1.0, pool=pool, position=POSITIONS[""])
        found[name] = accuracy(fit(spec, task, seed, epochs=60, init="published", batch_size=50), task)
    return {"cct_gain": found["cct"] - found["vit_lite"], "pooling_gain": found["cvt"] - found["vit_lite"], **found}
