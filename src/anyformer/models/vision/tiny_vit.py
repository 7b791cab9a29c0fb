"""TinyViT: convolutions first, then attention in windows with a convolution between attention and MLP.

Wu et al. 2022, arXiv:2207.10666, section 3.2 and table 1. Its three sizes were found by contracting the largest; its
weights by distillation from stored logits (`methods/distillation/stored_logits.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("tiny_vit",)


def tiny_vit(
    dims: Sequence[int],
    heads: Sequence[int],
    *,
    depths: Sequence[int] = (2, 2, 6, 2),
    windows: Sequence[int] = (7, 14, 7),
    ratio: float = 4.0,
    strides: Sequence[int] = (2, 2),
    image_size: int = 224,
) -> Spec:
    """A TinyViT; `heads` and `windows` are of the stages after the first, which is of convolutions."""
    first = Spec("post_act", mixer=Spec("inverted_bottleneck", ratio=ratio))

    def stage(i: int) -> Spec:
        mixer = {"heads": heads[i - 1], "window": windows[i - 1]}
        later = Spec(
            "local_conv_prenorm",
            # Small maps have one window, as small as they are.
            mixer=Spec("window", distance=Spec("offset_table"), cap=True, **mixer),
            ffn=Spec("mlp", ratio=ratio),
        )
        return Spec(
            "stage",
            dim=dims[i],
            depth=depths[i],
            block=later if i else first,
            downsample=Spec("separable_merge") if i else None,
        )

    return Spec(
        "pyramid",
        embed=Spec("conv_stem", strides=tuple(strides), act=Spec("gelu"), bias=False),
        stages=[stage(i) for i in range(len(dims))],
        norm=None,
        head=Spec("classifier", norm=Spec("layernorm")),
        image_size=image_size,
    )


LARGE = ((96, 192, 384, 576), (6, 12, 18))

VARIANTS = {
    "tiny_vit_5m": tiny_vit((64, 128, 160, 320), (4, 5, 10)),
    "tiny_vit_11m": tiny_vit((64, 128, 256, 448), (4, 8, 14)),
    "tiny_vit_21m": tiny_vit(*LARGE),
    "tiny_vit_21m_384": tiny_vit(*LARGE, windows=(12, 24, 12), image_size=384),
    "tiny_vit_21m_512": tiny_vit(*LARGE, windows=(16, 32, 16), image_size=512),
    # Ours, for images of 8 to 64 pixels and for tests.
    "tiny_vit_micro": tiny_vit(
        (24, 48), (4,), depths=(2, 2), windows=(2,), ratio=2.0, strides=(2, 1), image_size=8
    ).set(init="fan_in"),
}  # fmt: skip
