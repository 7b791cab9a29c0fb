"""Facial expressions by a Swin whose last map is squeezed and excited.

Vats and Chadha 2023, arXiv:2301.10906. The Swin is pretrained on ImageNet (`weights.load_reference` with the names of
Swin; the gate and the classes are new); it is trained with sharpness-aware minimization, `methods.optimization.sam`.
"""

from __future__ import annotations

from anyformer.core.spec import Spec
from anyformer.models.vision.swin import VARIANTS as SWIN

PAPERS = ("fer_se_swin",)

EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""The classes of AffectNet, in its order: Mollahosseini et al. 2017, arXiv:1708.03985, table 3."""

HEAD = Spec("excited_classifier")

VARIANTS = {
    f"fer_se_{name}": SWIN[name].set(head=HEAD, num_classes=len(EXPRESSIONS))
    for name in ("swin_tiny", "swin_small", "swin_base")
}
# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["fer_se_swin_micro"] = SWIN["swin_micro"].set(head=HEAD.set(ratio=0.25), num_classes=len(EXPRESSIONS))
