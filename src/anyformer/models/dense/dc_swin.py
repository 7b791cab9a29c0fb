"""DC-Swin: a Swin Transformer whose four maps refine each other, for the classes of aerial images.

Wang et al. 2021, arXiv:2104.12137, section III; sizes as in the authors' repository. Images have sides that are
multiples of 32. The authors train it with the patch embedding and the first two stages frozen.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.vision.swin import SMALL, TINY, swin

PAPERS = ("dc_swin",)


def dc_swin(backbone: Spec, *, multiple: int = 32, image_size: int = 512, num_classes: int = 6) -> Spec:
    """A DC-Swin over this Swin of four stages; `multiple` is how much coarser than the image its last map is."""
    return Spec(
        "segmenter",
        # Swin for segmentation shifts also where one window covers the map.
        backbone=backbone.replace("stages.*.block.1.mixer.shift", "always"),
        head=Spec("dcfam"),
        align_corners=True,
        multiple=multiple,
        rest="refuse",
        image_size=image_size,
        num_classes=num_classes,
        drop_path=0.3,
    )


VARIANTS = {
    "dcswin_tiny": dc_swin(swin(96, TINY, (3, 6, 12, 24))),
    "dcswin_small": dc_swin(swin(96, SMALL, (3, 6, 12, 24))),
    "dcswin_base": dc_swin(swin(128, SMALL, (4, 8, 16, 32))),
    # Ours, for images of 16 to 64 pixels and for tests.
    "dcswin_micro": dc_swin(
        swin(16, (1, 1, 1, 1), (1, 2, 4, 4), windows=4, patch=2, ratio=2.0),
        multiple=16,
        image_size=32,
        num_classes=3,
    ).set(drop_path=0.0, init="fan_in"),
}
