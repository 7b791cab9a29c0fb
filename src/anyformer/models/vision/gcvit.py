"""GC ViT: windows alternate with windows whose queries are one set of tokens for the whole map.

Hatamizadeh et al. 2022, arXiv:2206.09959, table 1 and appendix; tiny2 and small2 as in the authors' repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("gcvit",)


def gcvit(
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    ratio: float = 3.0,
    scale: float | None = None,
    splits: Sequence[int] = (8, 4, 1, 1),
    embed: Spec = Spec("fused_mbconv_stem"),
    image_size: int = 224,
) -> Spec:
    """A GC ViT with `dim` channels in the first stage, doubled from stage to stage.

    `splits` is the number of windows along each axis of each stage's map, `scale` where LayerScale starts (None for
    none).
    """
    residual = Spec("add") if scale is None else Spec("layer_scale", init=scale)

    def block(mixer: Spec) -> Spec:
        return Spec("global_query_prenorm", mixer=mixer, ffn=Spec("mlp", ratio=ratio), residual=residual)

    def stage(i: int) -> Spec:
        windows = {"heads": heads[i], "splits": splits[i]}
        return Spec(
            "global_query_stage",
            dim=dim * 2**i,
            depth=depths[i],
            splits=splits[i],
            block=[block(Spec("even_window", **windows)), block(Spec("global_query", queries="stage", **windows))],
            downsample=Spec("fused_mbconv") if i else None,
        )

    return Spec("pyramid", embed=embed, stages=[stage(i) for i in range(len(depths))], image_size=image_size)


TINY, SMALL, BASE, LARGE = (2, 4, 8, 16), (3, 6, 12, 24), (4, 8, 16, 32), (6, 12, 24, 48)
DEPTHS = (3, 4, 19, 5)

VARIANTS = {
    "gcvit_xxtiny": gcvit(64, (2, 2, 6, 2), TINY),
    "gcvit_xtiny": gcvit(64, (3, 4, 6, 5), TINY),
    "gcvit_tiny": gcvit(64, DEPTHS, TINY),
    "gcvit_tiny2": gcvit(64, (3, 4, 29, 5), TINY),
    "gcvit_small": gcvit(96, DEPTHS, SMALL, ratio=2.0, scale=1e-5),
    "gcvit_small2": gcvit(96, (3, 4, 23, 5), SMALL, scale=1e-5),
    "gcvit_base": gcvit(128, DEPTHS, BASE, ratio=2.0, scale=1e-5),
    "gcvit_large": gcvit(192, DEPTHS, LARGE, ratio=2.0, scale=1e-5),
    "gcvit_large_384": gcvit(192, DEPTHS, LARGE, ratio=2.0, scale=1e-5, image_size=384),
    "gcvit_large_512": gcvit(192, DEPTHS, LARGE, ratio=2.0, scale=1e-5, image_size=512),
    # Ours, for images of 8 to 64 pixels (sides that are multiples of 4) and for tests.
    "gcvit_micro": gcvit(
        32, (2, 2), (2, 4), ratio=2.0, splits=(2, 1), embed=Spec("patch", size=2), image_size=8
    ).set(init="fan_in"),
}  # fmt: skip
