"""ViT and DeiT: a plain transformer encoder over image patches.

Dosovitskiy et al. 2020, arXiv:2010.11929, table 1; Touvron et al. 2020 (DeiT), arXiv:2012.12877, table 1; Touvron
et al. 2022 (DeiT III), arXiv:2204.07118; larger ones Zhai et al. 2021, arXiv:2106.04560. The others are the same
encoder as published later, in other shapes: pooled by a mean ("gap"), with registers ("reg", Darcet et al. 2023,
arXiv:2309.16588), with a norm before the first block ("clip"), with learned branch scales (DINOv2), and so on.
"""

from __future__ import annotations

from typing import Any

from anyformer.core.spec import Spec

PAPERS = ("vit", "deit")

HEADS = {
    "class": Spec("classifier", pool=Spec("class")),
    "mean": Spec("classifier", pool=Spec("mean")),
    "distilled": Spec("distilled_classifier"),
}


def vit(
    dim: int,
    depth: int,
    heads: int,
    patch: int,
    *,
    ratio: float = 4.0,
    ffn: Spec | None = None,
    act: Spec | None = None,
    head: str = "class",
    final_norm: str = "tokens",
    first_norm: bool = False,
    registers: int = 0,
    bare_prefix: bool = False,
    bias: bool = True,
    scale: float | None = None,
    block: str = "prenorm",
    eps: float = 1e-6,
    image_size: int = 224,
    num_classes: int = 1000,
) -> Spec:
    """A ViT.

    Args:
        dim, depth, heads, patch: channels, blocks, heads, side of a patch.
        ratio, act: hidden channels per channel, and activation, of the MLP; `ffn`: another channel mixer instead.
        head: "class" (a class token), "distilled" (and a distillation token), "mean" (neither).
        final_norm: of all "tokens", of the "pooled" vector, or "none".
        first_norm: a norm before the first block instead of a bias of the patch embedding (CLIP).
        registers: tokens beside the head's.
        bare_prefix: class tokens and registers get no positions.
        bias: of queries, keys and values.
        scale: first value of learned scales of the branches; None for none.
        block: "prenorm", or "respostnorm", whose norms then start at `scale`.
        eps: of every norm.
    """
    norm = Spec("layernorm", eps=eps)
    mlp = Spec("mlp", ratio=ratio) if act is None else Spec("mlp", ratio=ratio, act=act)
    parts: dict[str, Any] = {"mixer": Spec("attention", heads=heads, bias=bias), "ffn": ffn or mlp, "norm": norm}
    if scale is not None and block == "respostnorm":
        parts["norm"] = norm.set(init=scale)
    elif scale is not None:
        parts["residual"] = Spec("layer_scale", init=scale)
    top = HEADS[head]
    options: dict[str, Any] = {
        "dim": dim,
        "depth": depth,
        "embed": Spec("patch", size=patch, bias=False) if first_norm else Spec("patch", size=patch),
        "position": Spec("learned", prefix=0) if bare_prefix else Spec("learned"),
        "block": Spec(block, **parts),
        "norm": norm if final_norm == "tokens" else None,
        "head": top.set(norm=norm) if final_norm == "pooled" else top,
        "image_size": image_size,
        "num_classes": num_classes,
    }
    if first_norm:
        options["first_norm"] = norm
    if registers:
        options["registers"] = registers
    return Spec("isotropic", **options)


SIZES: dict[str, tuple[tuple[int, int, int], float]] = {  # dim, depth, heads; MLP ratio
    "xsmall": ((256, 10, 4), 4.0),
    "tiny": ((192, 12, 3), 4.0),
    "wee": ((256, 14, 4), 5.0),
    "little": ((320, 14, 5), 5.6),
    "small": ((384, 12, 6), 4.0),
    "medium": ((512, 12, 8), 4.0),
    "mediumd": ((512, 20, 8), 4.0),
    "betwixt": ((640, 12, 10), 4.0),
    "base": ((768, 12, 12), 4.0),
    "base_plus": ((896, 12, 14), 4.0),
    "so150m": ((896, 18, 14), 2.572),
    "so150m2": ((832, 21, 13), 34 / 13),
    "large": ((1024, 24, 16), 4.0),
    "so400m": ((1152, 27, 16), 3.7362),
    "huge": ((1280, 32, 16), 4.0),
    "giant": ((1408, 40, 16), 48 / 11),
    "giantopt": ((1536, 40, 16), 4.0),
    "gigantic": ((1664, 48, 16), 64 / 13),
}
PATCHES = {
    "tiny": (16,),
    "small": (32, 16, 8),
    "base": (32, 16, 8),
    "large": (32, 16, 14),
    "huge": (14,),
    "giant": (14,),
    "gigantic": (14,),
}


def sized(size: str, patch: int, **options: Any) -> Spec:
    """A ViT of a named size."""
    shape, ratio = SIZES[size]
    return vit(*shape, patch, **{"ratio": ratio, **options})


VARIANTS = {f"vit_{size}_patch{patch}": sized(size, patch) for size in PATCHES for patch in PATCHES[size]}

# DeiT: the shapes of ViT; with a distillation token; and DeiT III.
VARIANTS |= {f"deit_{size}": sized(size, 16) for size in ("tiny", "small", "base")}
VARIANTS |= {f"deit_{size}_distilled": sized(size, 16, head="distilled") for size in ("tiny", "small", "base")}
DEIT3: dict[str, Any] = {"bare_prefix": True, "scale": 1e-6}
VARIANTS |= {f"deit3_{size}": sized(size, 16, **DEIT3) for size in ("tiny", "small", "medium", "base", "large")}
VARIANTS |= {
    "deit3_huge": sized("huge", 14, **DEIT3),
    "deit3_huge_52": vit(1280, 52, 16, 14, **DEIT3),
    "deit3_giant_40": vit(1408, 40, 16, 14, **DEIT3),
    "deit3_gigantic_48": vit(1664, 48, 16, 14, **DEIT3),
    "deit3_small_36": vit(384, 36, 6, 16, **DEIT3),
    "deit3_base_36": vit(768, 36, 12, 16, **DEIT3),
    "deit_small_36": vit(384, 36, 6, 16, bare_prefix=True),
    "deit_base_36": vit(768, 36, 12, 16, bare_prefix=True),
}

# Pooled by a mean over patches, without a class token.
GAP: dict[str, Any] = {"head": "mean", "bias": False, "scale": 1e-6}
REG: dict[str, Any] = {"head": "mean", "final_norm": "pooled", "bare_prefix": True, "scale": 1e-5, "image_size": 256}
REG_POSITIONS: dict[str, Any] = {"head": "mean", "image_size": 256}
VARIANTS |= {
    "vit_medium_patch16_gap": sized("medium", 16, image_size=256, **GAP),
    "vit_betwixt_patch16_gap": sized("betwixt", 16, image_size=256, **GAP),
    "vit_base_patch16_gap": vit(768, 12, 16, 16, head="mean"),
    "vit_huge_patch14_gap": sized("huge", 14, head="mean", num_classes=0),
    "vit_huge_patch16_gap": sized("huge", 16, head="mean", image_size=448, num_classes=0),
    "vit_giant_patch16_gap": sized("giant", 16, head="mean", num_classes=0),
    "vit_base_patch16_rpn": sized(
        "base", 16, head="mean", final_norm="pooled", bias=False, scale=1e-5, block="respostnorm"
    ),
    # The class token stays, the mean leaves it out (EVA, arXiv:2211.07636).
    "eva_large_patch14": sized("large", 14, head="mean", registers=1, final_norm="pooled", image_size=196),
    "vit_base_patch16_reg4_gap": sized("base", 16, registers=4, **{**REG, "scale": None}),
    "vit_so150m_patch16_reg4_gap": sized("so150m", 16, registers=4, **REG_POSITIONS),
    "vit_so150m2_patch16_reg1_gap": sized(
        "so150m2", 16, registers=1, bias=False, scale=1e-5, final_norm="pooled", **REG_POSITIONS
    ),
}
VARIANTS |= {
    f"vit_{size}_patch16_reg{n}_gap": sized(size, 16, registers=n, **REG)
    for size, n in (
        ("wee", 1), ("little", 1), ("little", 4), ("medium", 1), ("medium", 4), ("mediumd", 4),
        ("betwixt", 1), ("betwixt", 4),
    )
}  # fmt: skip

# The image towers of CLIP (arXiv:2103.00020, 2212.07143) and SigLIP (arXiv:2303.15343, without its attention pooling).
CLIP: dict[str, Any] = {"first_norm": True, "eps": 1e-5}
QUICK: dict[str, Any] = {"act": Spec("quick_gelu"), **CLIP}
TANH: dict[str, Any] = {"act": Spec("gelu", approximate="tanh")}
CLIP_CLASSES = {  # width of the embedding that text and image share
    ("xsmall", 16): 512, ("medium", 32): 512, ("medium", 16): 512, ("betwixt", 32): 512, ("base", 32): 512,
    ("base", 16): 512, ("base_plus", 16): 640, ("large", 14): 768, ("huge", 14): 1024, ("giant", 14): 1024,
    ("gigantic", 14): 1280,
}  # fmt: skip
VARIANTS |= {f"vit_{s}_patch{p}_clip": sized(s, p, num_classes=n, **CLIP) for (s, p), n in CLIP_CLASSES.items()}
VARIANTS |= {
    f"vit_{s}_patch{p}_clip_quickgelu": sized(s, p, num_classes=CLIP_CLASSES[s, p], **QUICK)
    for s, p in (("base", 32), ("base", 16), ("large", 14), ("huge", 14), ("gigantic", 14))
}
VARIANTS |= {
    f"vit_{s}_patch{p}_siglip_gap": sized(s, p, head="mean", num_classes=0, image_size=image)
    for s, p, image in (("base", 16, 224), ("large", 16, 256), ("so400m", 14, 224))
}
VARIANTS |= {
    f"vit_{s}_patch{p}_siglip2_gap": sized(s, p, head="mean", num_classes=0, image_size=256, **TANH)
    for s, p in (("base", 32), ("large", 16), ("so400m", 16), ("giantopt", 16))
}

# Backbones pretrained without labels: DINOv2 (arXiv:2304.07193), RADIO (arXiv:2312.06709), InternViT and others.
GLU = Spec("gated_mlp", hidden=4096, bias=True)
DINO: dict[str, Any] = {"scale": 1e-5, "image_size": 518, "num_classes": 0}
TIPS: dict[str, Any] = {"scale": 1.0, "image_size": 448, "num_classes": 0, "registers": 1, "bare_prefix": True}
RADIO: dict[str, Any] = {"bare_prefix": True, "final_norm": "none", "image_size": 512, "num_classes": 0}
for _size in ("small", "base", "large"):
    VARIANTS[f"vit_{_size}_patch14_dinov2"] = sized(_size, 14, **DINO)
    VARIANTS[f"vit_{_size}_patch14_reg4_dinov2"] = sized(_size, 14, registers=4, bare_prefix=True, **DINO)
VARIANTS |= {
    "vit_giant_patch14_dinov2": vit(1536, 40, 24, 14, ffn=GLU, **DINO),
    "vit_giant_patch14_reg4_dinov2": vit(1536, 40, 24, 14, ffn=GLU, registers=4, bare_prefix=True, **DINO),
    "vit_base_patch14_reg1_tipsv2": sized("base", 14, **TIPS),
    "vit_large_patch14_reg1_tipsv2": sized("large", 14, **TIPS),
    "vit_so400m_patch14_reg1_tipsv2": sized("so400m", 14, **{**TIPS, "ratio": 4304 / 1152}),
    "vit_giant_patch14_reg1_tipsv2": vit(1536, 40, 24, 14, ffn=GLU, **TIPS),
    "vit_base_patch16_radio_v3": sized("base", 16, registers=7, scale=1e-5, **RADIO),
    "vit_large_patch16_radio_v3": sized("large", 16, registers=7, scale=1e-5, **RADIO),
    "vit_huge_patch16_radio_v3": sized("huge", 16, registers=7, **RADIO),
    "vit_giant_patch16_radio_v3": vit(1536, 40, 24, 16, registers=7, **RADIO),
    "vit_huge_patch16_radio_v4": sized("huge", 16, registers=9, **RADIO),
    "vit_so400m_patch16_radio_v4": sized("so400m", 16, registers=9, **{**RADIO, "ratio": 4304 / 1152}),
    "vit_intern300m_patch14": sized("large", 14, scale=0.1, final_norm="none", image_size=448, num_classes=0),
}

# Made for patches of many sizes (FlexiViT, arXiv:2212.08013); wider; deeper.
VARIANTS |= {
    f"flexivit_{size}": sized(size, 16, bare_prefix=True, image_size=240) for size in ("small", "base", "large")
}
VARIANTS |= {
    "vit_base_plus_patch16": sized("base_plus", 16, scale=1e-5, image_size=240),
    "vit_base_plus_patch32": sized("base_plus", 32, scale=1e-5, image_size=256),
    "vit_small_patch16_36": vit(384, 36, 6, 16, scale=1e-5),
    "vit_base_patch16_miil": sized("base", 16, bias=False, num_classes=11221),
}

# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["vit_micro"] = vit(64, 4, 4, 2, ratio=2.0, head="mean", image_size=8, num_classes=1000).set(init="fan_in")
