"""Compact Transformers: small ViTs for small data. ViT-Lite, CVT (sequence pooling), CCT (convolutional tokenizer).

Hassani et al. 2021, arXiv:2104.05704, section 3 and tables 1 and 2. CCT-L/KxN has L blocks and N convolutions of
kernel K; "_sine" variants have fixed positions. Without any, CCT takes images of any size: `position=None`.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("compact_transformers",)

SIZES = {  # blocks: dim, heads, MLP ratio
    2: (128, 2, 1.0),
    4: (128, 2, 1.0),
    6: (256, 4, 2.0),
    7: (256, 4, 2.0),
    14: (384, 6, 3.0),
}
POSITIONS = {"": Spec("learned", std=0.2), "_sine": Spec("sinusoidal")}


def compact(
    dim: int,
    depth: int,
    heads: int,
    embed: Spec,
    *,
    ratio: float,
    pool: str,
    position: Spec,
    image_size: int = 32,
    num_classes: int = 10,
) -> Spec:
    """The body that all three share."""
    return Spec(
        "isotropic",
        dim=dim,
        depth=depth,
        embed=embed,
        position=position,
        block=Spec("midnorm", mixer=Spec("attention", heads=heads, bias=False), ffn=Spec("mlp", ratio=ratio)),
        head=Spec("classifier", pool=Spec(pool)),
        image_size=image_size,
        num_classes=num_classes,
    )


def cct(
    depth: int, kernel: int, convolutions: int, position: Spec, image_size: int = 32, num_classes: int = 10
) -> Spec:
    """CCT-depth/kernel x convolutions."""
    dim, heads, ratio = SIZES[depth]
    embed = Spec("conv_tokenizer", kernel=kernel, layers=convolutions)
    return compact(
        dim,
        depth,
        heads,
        embed,
        ratio=ratio,
        pool="sequence",
        position=position,
        image_size=image_size,
        num_classes=num_classes,
    )


def patched(depth: int, pool: str, position: Spec) -> Spec:
    """CVT (`pool` "sequence") or ViT-Lite ("class") with patches of 4."""
    dim, heads, ratio = SIZES[depth]
    return compact(dim, depth, heads, Spec("patch", size=4, rest="refuse"), ratio=ratio, pool=pool, position=position)


VARIANTS: dict[str, Spec] = {}
for _end, _position in POSITIONS.items():
    VARIANTS |= {
        f"cct_{depth}_{kernel}x{n}{_end}": cct(depth, kernel, n, _position)
        for depth, kernel, n in ((2, 3, 2), (4, 3, 2), (6, 3, 1), (6, 3, 2), (7, 3, 1), (7, 3, 2))
    }
    VARIANTS[f"cct_7_7x2{_end}"] = cct(7, 7, 2, _position, 224, 102)
    VARIANTS |= {f"cvt_{depth}_4{_end}": patched(depth, "sequence", _position) for depth in (2, 4, 6, 7)}
    VARIANTS |= {f"vit_lite_{depth}_4{_end}": patched(depth, "class", _position) for depth in (2, 4, 6, 7)}
VARIANTS["cct_14_7x2"] = cct(14, 7, 2, POSITIONS[""], 224, 1000)
# Ours, for images of 8 to 32 pixels and for tests.
VARIANTS["cct_micro"] = compact(
    64,
    4,
    4,
    Spec("conv_tokenizer", hidden=32),
    ratio=1.0,
    pool="sequence",
    position=POSITIONS[""],
    image_size=8,
).set(init="fan_in")
