"""SG-Former: pairs of blocks of which the first says which tokens matter and the second merges the others.

Ren et al. 2023, arXiv:2308.12216, section 3 and table 1; how many tokens become one in each part as in the authors'
repository, which fixes it for 224x224 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.core.spec import Spec

PAPERS = ("sg_former",)
NORM, MAP_NORM = Spec("layernorm", eps=1e-6), Spec("groupnorm1")
FFN = "skip_mix_ffn"
MERGES: tuple[dict[str, Any], ...] = (
    {"shares": (1, 2, 1), "rates": (196, 56, 28)},
    {"shares": (1, 2, 1), "rates": (49, 14, 7)},
    {"shares": (1, 1), "rates": (2, 1)},
)
"""Shares of the tokens, the least significant first, and how many of each become one, for every guided stage."""
STEM = Spec("normed_stem", widths=(1.0, 1.0), strides=(2, 1, 2), norm=MAP_NORM, act=Spec("gelu"), out_norm=MAP_NORM,
            bias=False)  # fmt: skip


def sg_former(
    dims: Sequence[int],
    pairs: Sequence[int],
    last: int,
    heads: Sequence[int],
    *,
    reductions: Sequence[int] = (8, 4, 2),
    merges: Sequence[dict[str, Any]] = MERGES,
    window: int = 7,
    ratio: float = 4.0,
    embed: Spec = STEM,
    image_size: int = 224,
) -> Spec:
    """An SG-Former.

    Args:
        dims, heads: of each stage.
        pairs: of hybrid-scale and self-guided blocks, in every stage but the last.
        last: blocks of plain attention in the last stage.
        reductions: of the map that half of the hybrid blocks' heads see, in every stage but the last.
        merges: shares and rates of the self-guided blocks there.
        window: side of the windows that the other half sees.
        ratio: hidden channels per channel.
        embed: the stem.
        image_size: pixels along each axis.
    """

    def stage(i: int) -> Spec:
        both = {"ffn": Spec(FFN, ratio=ratio), "norm": NORM}
        if i < len(pairs):
            mixer = Spec("hybrid_scale", heads=heads[i], reduction=reductions[i], window=window)
            block = Spec("self_guided_pair", heads=heads[i], mixer=mixer, **both, **merges[i])
        else:
            block = Spec("prenorm", mixer=Spec("linear_lepe_attention", heads=heads[i]), **both)
        return Spec(
            "stage",
            dim=dims[i],
            depth=pairs[i] if i < len(pairs) else last,
            block=block,
            downsample=Spec("separable_merge", norm=MAP_NORM) if i else None,
            position=None if i else Spec("sincos_table"),
            norm=NORM,
        )

    return Spec("pyramid", embed=embed, stages=[stage(i) for i in range(len(dims))], norm=None, image_size=image_size)


WIDTHS, HEADS = (64, 128, 256, 512), (2, 4, 8, 16)

VARIANTS = {
    "sg_former_small": sg_former(WIDTHS, (1, 2, 8), 1, HEADS),
    "sg_former_medium": sg_former(WIDTHS, (1, 3, 14), 2, HEADS),
    "sg_former_base": sg_former((96, 192, 384, 768), (2, 3, 12), 2, (4, 6, 12, 24)),
    # Ours, for images of 8 to 64 pixels (of a multiple of 16 tokens of 2x2 pixels) and for tests.
    "sg_former_micro": sg_former(
        (32, 64), (1,), 2, (2, 4), reductions=(2,), merges=({"shares": (1, 2, 1), "rates": (4, 2, 1)},), window=2,
        ratio=2.0, embed=Spec("patch", size=2, norm=Spec("layernorm")), image_size=8,
    ).set(init="fan_in"),
}  # fmt: skip
