"""FaViT: a pyramid whose attention shares channels out to keys of different reach, at the cost of windows.

Qin et al. 2023, arXiv:2312.08614, section 3; sizes, and how windows are averaged (`flattened_factorized`), as in the
authors' repository. `favit_micro` averages as the paper says.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("favit",)
NORM = Spec("layernorm", eps=1e-6)


def favit(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int] = (1, 2, 4, 8),
    *,
    ratios: Sequence[float] = (8.0, 6.0, 4.0, 4.0),
    reductions: Sequence[int] = (8, 4, 2, 1),
    window: int = 7,
    mixer: str = "flattened_factorized",
    shares: tuple[Sequence[int], Sequence[int]] = ((2, 7, 7), (1, 7)),
    patch: int = 7,
    stride: int = 4,
    image_size: int = 224,
) -> Spec:
    """A FaViT.

    Args:
        dims, depths, heads, ratios: of each stage.
        reductions: of each stage's coarse keys, and dilation of its wide windows; 1 for a stage without those.
        window: tokens along each side of the windows.
        mixer: "flattened_factorized" or "factorized".
        shares: of the channels that coarse keys, near windows and wide ones get, with and without wide windows.
        patch, stride: of the first convolution.
        image_size: pixels along each axis.
    """

    def stage(i: int) -> Spec:
        wide = reductions[i] > 1
        attention = Spec(
            mixer,
            heads=heads[i],
            reduction=reductions[i],
            window=window,
            shares=shares[0] if wide else shares[1],
            dilations=(1, reductions[i]) if wide else (1,),
        )
        downsample = Spec("conv", kernel=3, stride=2, padding=1, norm_after=Spec("layernorm"))
        return Spec(
            "stage",
            dim=dims[i],
            depth=depths[i],
            block=Spec("prenorm", mixer=attention, ffn=Spec("mix_ffn", ratio=ratios[i]), norm=NORM),
            downsample=downsample if i else None,
            norm=NORM,
        )

    return Spec(
        "pyramid",
        embed=Spec("patch", size=patch, stride=stride, padding=patch // 2, norm=Spec("layernorm")),
        stages=[stage(i) for i in range(len(dims))],
        norm=None,
        image_size=image_size,
    )


WIDTHS = (64, 128, 256, 512)

VARIANTS = {
    "favit_b0": favit((32, 64, 128, 256), (2, 2, 6, 2)),
    "favit_b1": favit(WIDTHS, (2, 2, 6, 2)),
    "favit_b2": favit(WIDTHS, (2, 3, 18, 3)),
    "favit_b3": favit((96, 192, 384, 768), (2, 3, 14, 3)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "favit_micro": favit(
        (32, 64), (2, 2), (1, 2), ratios=(2.0, 2.0), reductions=(2, 1), window=3, mixer="factorized",
        shares=((2, 1, 1), (1, 1)), patch=3, stride=2, image_size=8,
    ).set(init="fan_in"),
}  # fmt: skip
