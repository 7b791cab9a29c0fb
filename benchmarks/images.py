"""Image models of timm, and of transformers where timm has none."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anyformer import create_model
from benchmarks.case import Case, peer

IMAGES = (  # ours and theirs: timm names, at their own image size
    "vit_tiny_patch16_224",
    "vit_small_patch16_224",
    "deit_small_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "poolformer_s12",
    "poolformerv2_s12",
    "convformer_s18",
    "caformer_s18",
    "convnext_tiny",
    "convnext_atto",
    "mixer_s16_224",
    "gmlp_s16_224",
    "convmixer_768_32",
    "tnt_s_patch16_224",
    "gcvit_xxtiny",
    "hiera_tiny_224",
    "crossvit_tiny_240",
    "beit_base_patch16_224",
    "efficientformer_l1",
    "tiny_vit_5m_224",
)
HUB_IMAGES = {"pvt_tiny": "Zetatech/pvt-tiny-224", "cvt_13": "microsoft/cvt-13"}


def image_case(name: str, batch: int) -> Case:
    theirs = peer("timm").create_model(name).eval()
    ours = create_model(f"timm:{name}").eval()
    x = torch.randn(batch, 3, *ours.image_size)
    # In evaluation some of timm's keep the biases of their first pass, with a graph that serves one backward pass.
    return Case(name, "timm", lambda: ours(x), lambda: theirs(x), forget=lambda: theirs.train().eval())


def hub_image_case(name: str, batch: int) -> Case:
    transformers = peer("transformers")
    configs = {
        "pvt_tiny": ("PvtConfig", "PvtForImageClassification"),
        "cvt_13": ("CvtConfig", "CvtForImageClassification"),
    }
    config, cls = (getattr(transformers, n) for n in configs[name])
    theirs = cls(config()).eval()
    ours = create_model(f"transformers:{HUB_IMAGES[name]}").eval()
    x = torch.randn(batch, 3, 224, 224)
    return Case(name, "transformers", lambda: ours(x), lambda: theirs(x))


def cases(batch: int) -> dict[str, Callable[[], Case]]:
    """Every case by name, made when its turn comes."""
    made: dict[str, Callable[[], Case]] = {n: lambda n=n: image_case(n, batch) for n in IMAGES}
    made |= {n: lambda n=n: hub_image_case(n, batch) for n in HUB_IMAGES}
    return made
