"""SMT: convolutions of several sizes modulate the first stages' values and hand over to attention in the last ones.

Lin et al. 2023, arXiv:2307.08579, section 3 and table 1. Stage 3 alternates ("evolutionary hybrid network").
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("smt",)
NORM = Spec("layernorm", eps=1e-6)


def smt(
    dims: Sequence[int],
    depths: Sequence[int],
    *,
    patterns: Sequence[str] = ("m", "m", "ma", "a"),
    heads: Sequence[int] = (0, 0, 8, 16),
    ratios: Sequence[float] = (4.0, 4.0, 4.0, 2.0),
    kernels: Sequence[int] = (3, 5, 7, 9),
    kernel: int = 3,
    embed: Spec | None = None,
    image_size: int = 224,
) -> Spec:
    """An SMT.

    Args:
        dims, depths, ratios: of each stage.
        patterns: the blocks of each stage, repeated in turn: "m" for modulation, "a" for attention.
        heads: attention heads of each stage.
        kernels: filters of the mixed convolution's heads.
        kernel: side of the stem's first convolution.
        embed: a stem in place of the published one.
        image_size: pixels along each axis.
    """

    def block(kind: str, i: int) -> Spec:
        modulation = Spec("scale_aware", kernels=tuple(kernels))
        mixer = modulation if kind == "m" else Spec("lepe_attention", heads=heads[i])
        return Spec("prenorm", mixer=mixer, ffn=Spec("skip_mix_ffn", ratio=ratios[i]), norm=NORM)

    def stage(i: int) -> Spec:
        return Spec(
            "stage",
            dim=dims[i],
            depth=depths[i],
            block=[block(kind, i) for kind in patterns[i]],
            downsample=Spec("conv", kernel=3, stride=2, padding=1, norm_after=Spec("layernorm")) if i else None,
            norm=NORM,
        )

    stem = Spec(
        "conv_stem", widths=(dims[0],), kernels=(kernel, 2), strides=(2, 2), paddings=(kernel // 2, 0),
        bias=(False, True), out_norm=Spec("layernorm"),
    )  # fmt: skip
    stages = [stage(i) for i in range(len(dims))]
    return Spec("pyramid", embed=stem if embed is None else embed, stages=stages, norm=None, image_size=image_size)


WIDTHS, WIDER_FFN = (64, 128, 256, 512), (8.0, 6.0, 4.0, 2.0)

VARIANTS = {
    "smt_tiny": smt(WIDTHS, (2, 2, 8, 1)),
    "smt_small": smt(WIDTHS, (3, 4, 18, 2)),
    "smt_base": smt(WIDTHS, (4, 6, 28, 2), ratios=WIDER_FFN, kernel=7),
    "smt_large": smt((96, 192, 384, 768), (4, 6, 28, 4), ratios=WIDER_FFN, kernel=7),
    # Ours, for images of 8 to 64 pixels and for tests.
    "smt_micro": smt(
        (32, 64), (2, 2), patterns=("m", "ma"), heads=(0, 2), ratios=(2.0, 2.0), kernels=(3, 5),
        embed=Spec("patch", size=3, stride=1, padding=1, norm=Spec("layernorm")), image_size=8,
    ).set(init="fan_in"),
}  # fmt: skip
