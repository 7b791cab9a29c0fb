"""Pictures of electrocardiograms by three backbones behind one interface: ViT, BEiT and Swin, with four findings.

arXiv:2310.12630, section 3: the backbones as published and pretrained, with a new classifier, fine-tuned on pictures of
224 pixels; see the task `ecg_images`. Weights of each come by the names of its own family.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.vision.beit import VARIANTS as BEIT
from anyformer.models.vision.beit import beit
from anyformer.models.vision.swin import VARIANTS as SWIN
from anyformer.models.vision.swin import swin
from anyformer.models.vision.vit import VARIANTS as VIT
from anyformer.models.vision.vit import vit

PAPERS = ("ecg_vit",)

FINDINGS = 4

VARIANTS: dict[str, Spec] = {
    "ecg_vit_base": VIT["vit_base_patch16"].set(num_classes=FINDINGS),
    "ecg_beit_base": BEIT["beit_base"].set(num_classes=FINDINGS),
    "ecg_swin_tiny": SWIN["swin_tiny"].set(num_classes=FINDINGS),
}
# Ours, for pictures of 32 to 128 pixels and for tests.
SMALL = {"init": "fan_in", "num_classes": FINDINGS}
VARIANTS |= {
    "ecg_vit_micro": vit(64, 4, 4, 8, ratio=2.0, head="mean", image_size=64).set(**SMALL),
    "ecg_beit_micro": beit(64, 4, 4, 8, ratio=2.0, scale=1.0, image_size=64).set(**SMALL),
    "ecg_swin_micro": swin(32, (2, 2), (2, 4), windows=4, patch=4, ratio=2.0, image_size=64).set(**SMALL),
}
