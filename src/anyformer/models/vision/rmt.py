"""RMT: a pyramid whose attention decays with Manhattan distance, decomposed along the axes where maps are large.

Fan et al. 2023, arXiv:2309.11523, section 3.4; depths and widths as in the authors' repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("rmt",)
NORM = Spec("layernorm", eps=1e-6)
STEM = Spec("conv_stem", widths=(0.5, 0.5, 1.0), strides=(2, 1, 2, 1), act=Spec("gelu"))


def rmt(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    spans: Sequence[float] = (4, 4, 6, 6),
    ratios: Sequence[float] = (4.0, 4.0, 3.0, 3.0),
    decomposed: int = 3,
    scaled: Sequence[int] = (),
    embed: Spec = STEM,
    hidden: int = 1024,
    image_size: int = 224,
) -> Spec:
    """An RMT.

    Args:
        dims, depths, heads, ratios: of each stage.
        spans: how far the exponents of the decays go over the heads of each stage.
        decomposed: the first so many stages attend along one axis at a time, the others to the whole map.
        scaled: stages whose branches start scaled by 1e-6.
        embed: the stem.
        hidden: channels before the classifier.
        image_size: pixels along each axis.
    """

    def stage(i: int) -> Spec:
        mixer = "decomposed_manhattan" if i < decomposed else "manhattan"
        block = Spec(
            "conditional_prenorm",
            mixer=Spec(mixer, heads=heads[i], decay=Spec("manhattan_decay", start=2.0, span=float(spans[i]))),
            ffn=Spec("local_mlp", ratio=ratios[i]),
            norm=NORM,
            residual=Spec("layer_scale", init=1e-6) if i in scaled else Spec("add"),
        )
        downsample = Spec("conv", kernel=3, stride=2, padding=1, norm_after=Spec("batchnorm"))
        return Spec("stage", dim=dims[i], depth=depths[i], block=block, downsample=downsample if i else None)

    return Spec(
        "pyramid",
        embed=embed,
        stages=[stage(i) for i in range(len(dims))],
        norm=None,
        head=Spec("projected_classifier", hidden=hidden),
        image_size=image_size,
    )


WIDTHS, HEADS = (64, 128, 256, 512), (4, 4, 8, 16)

VARIANTS = {
    "rmt_tiny": rmt(WIDTHS, (2, 2, 8, 2), HEADS, ratios=(3.0,) * 4, decomposed=2),
    "rmt_small": rmt(WIDTHS, (3, 4, 18, 4), HEADS),
    "rmt_base": rmt((80, 160, 320, 512), (4, 8, 25, 8), (5, 5, 10, 16), spans=(5, 5, 6, 6), scaled=(2, 3)),
    "rmt_large": rmt((112, 224, 448, 640), (4, 8, 25, 8), (7, 7, 14, 20), spans=(6, 6, 6, 6), scaled=(2, 3)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "rmt_micro": rmt(
        (32, 64), (2, 2), (2, 4), spans=(4, 4), ratios=(2.0, 2.0), decomposed=1,
        embed=STEM.set(widths=(32,), strides=(2, 1)), hidden=128,
        image_size=8,
    ).set(init="fan_in"),
}  # fmt: skip
