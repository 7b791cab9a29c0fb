"""gMLP: blocks of one MLP each, whose hidden channels are gated by a linear layer over the patches; and aMLP.

Liu et al. 2021, arXiv:2105.08050, table 1. No positions, and no attention but aMLP's tiny one.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("gmlp",)

NORM = Spec("layernorm", eps=1e-6)


def gmlp(
    dim: int,
    *,
    depth: int = 30,
    patch: int = 16,
    ratio: float = 6.0,
    attention: int = 0,
    image_size: int = 224,
) -> Spec:
    """A gMLP; with `attention`, the channels of tiny attention, an aMLP."""
    gating = Spec("spatial_gating", ratio=ratio, attention=attention, norm=Spec("layernorm", eps=1e-5))
    block = Spec("prenorm", mixer=gating, ffn=None, norm=NORM)
    embed = Spec("patch", size=patch, rest="refuse")
    return Spec("isotropic", dim=dim, depth=depth, embed=embed, block=block, norm=NORM, image_size=image_size)


VARIANTS = {
    "gmlp_ti16": gmlp(128),
    "gmlp_s16": gmlp(256),
    "gmlp_b16": gmlp(512),
    # Ours, for images of 8 to 32 pixels and for tests, without and with tiny attention.
    "gmlp_micro": gmlp(64, depth=4, patch=2, ratio=4.0, image_size=8).set(init="fan_in"),
    "amlp_micro": gmlp(64, depth=4, patch=2, ratio=4.0, attention=16, image_size=8).set(init="fan_in"),
}
