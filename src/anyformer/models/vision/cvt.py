"""Convolutional vision Transformer (CvT): convolutions make the tokens of every stage, and its queries, keys, values.

Wu et al. 2021, arXiv:2103.15808, section 3 and table 2. There are no positions; only the last stage has a class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anyformer.core.spec import Spec

PAPERS = ("cvt",)


def cvt(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    patch: int = 7,
    stride: int = 4,
    padding: int = 2,
    ratio: float = 4.0,
    position: Spec | None = None,
    pool: Literal["class", "mean"] = "class",
    image_size: int = 224,
) -> Spec:
    """A CvT.

    Args:
        dims, depths, heads: of each stage.
        patch, stride, padding: of the first convolution; the others are 3x3 of stride 2.
        ratio: hidden channels per channel of the MLPs.
        position: absolute positions of every stage; the published models have none.
        pool: what the head reads, a class token of the last stage or the mean of its tokens.
        image_size: side of the image.
    """

    def stage(i: int) -> Spec:
        classed = pool == "class" and i + 1 == len(dims)
        # As the authors' code has it: scores divided by the root of all channels, and GELU by a logistic function.
        mixer = Spec("conv_projection", heads=heads[i], scoring=Spec("width_softmax"))
        ffn = Spec("mlp", ratio=ratio, act=Spec("quick_gelu"))
        return Spec(
            "class_stage" if classed else "stage",
            dim=dims[i],
            depth=depths[i],
            block=Spec("class_prenorm" if classed else "prenorm", mixer=mixer, ffn=ffn),
            downsample=Spec("conv", kernel=3, stride=2, padding=1, norm_after=Spec("layernorm")) if i else None,
            position=position,
        )

    return Spec(
        "pyramid",
        embed=Spec("patch", size=patch, stride=stride, padding=padding, norm=Spec("layernorm")),
        stages=[stage(i) for i in range(len(dims))],
        head=Spec("classifier", pool=Spec(pool)),
        image_size=image_size,
    )


VARIANTS = {
    "cvt_13": cvt((64, 192, 384), (1, 2, 10), (1, 3, 6)),
    "cvt_21": cvt((64, 192, 384), (1, 4, 16), (1, 3, 6)),
    "cvt_w24": cvt((192, 768, 1024), (2, 2, 20), (3, 12, 16), image_size=384),
    # Ours, for images of 8 to 64 pixels and for tests: without a class token, so that any mixer fits.
    "cvt_micro": cvt((32, 64), (1, 2), (1, 2), patch=3, stride=2, padding=1, ratio=2.0, pool="mean", image_size=8).set(
        init="fan_in"
    ),
}
