"""Pyramid Vision Transformer (PVT): a transformer in four stages whose attention looks at a reduced map.

Wang et al. 2021, arXiv:2102.12122, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("pvt",)


def pvt(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    reductions: Sequence[int] = (8, 4, 2, 1),
    ratios: Sequence[float] = (8.0, 8.0, 4.0, 4.0),
    patch: int = 4,
    image_size: int = 224,
) -> Spec:
    """A PVT: every stage starts with a patch embedding and positions of its own; the last has a class token."""

    def stage(i: int) -> Spec:
        block = Spec(
            "prenorm",
            mixer=Spec("spatial_reduction", heads=heads[i], reduction=reductions[i]),
            ffn=Spec("mlp", ratio=ratios[i]),
            norm=Spec("layernorm", eps=1e-6),
        )
        downsample = Spec("conv", kernel=2, stride=2, norm_after=Spec("layernorm"), rest="refuse")
        return Spec(
            "stage",
            dim=dims[i],
            depth=depths[i],
            block=block,
            downsample=downsample if i else None,
            position=Spec("learned", resize="bilinear"),
            prefix=int(i + 1 == len(dims)),
        )

    return Spec(
        "pyramid",
        embed=Spec("patch", size=patch, norm=Spec("layernorm"), rest="refuse"),
        stages=[stage(i) for i in range(len(dims))],
        norm=Spec("layernorm", eps=1e-6),
        head=Spec("classifier", pool=Spec("class")),
        image_size=image_size,
    )


DIMS, HEADS = (64, 128, 320, 512), (1, 2, 5, 8)

VARIANTS = {
    "pvt_tiny": pvt(DIMS, (2, 2, 2, 2), HEADS),
    "pvt_small": pvt(DIMS, (3, 4, 6, 3), HEADS),
    "pvt_medium": pvt(DIMS, (3, 4, 18, 3), HEADS),
    "pvt_large": pvt(DIMS, (3, 8, 27, 3), HEADS),
    # In the authors' repository only ("pvt_huge_v2" there, though it is no PVT v2).
    "pvt_huge": pvt((128, 256, 512, 768), (3, 10, 60, 3), (2, 4, 8, 12)),
    # Ours, for images of 8 to 32 pixels and for tests.
    "pvt_micro": pvt((32, 64), (2, 2), (1, 2), reductions=(2, 1), ratios=(4.0, 2.0), patch=2, image_size=8).set(
        init="fan_in"
    ),
}
