"""SegFormer: a pyramid of reduced attention whose only positions are convolutions, and a decoder of linear maps.

Xie et al. 2021, arXiv:2105.15203, tables 6 and 7 (MiT-B0 to B5 and their decoders).
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("segformer3d",)


def mix_transformer(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    reductions: Sequence[int] = (8, 4, 2, 1),
    patch: int = 4,
    ratio: float = 4.0,
    hidden_norm: Spec | None = None,
    eps: float = 1e-6,
    image_size: int | Sequence[int] = 512,
) -> Spec:
    """A Mix Transformer (MiT): overlapping patches, reduced attention, Mix-FFN; every stage ends with a norm.

    Args:
        patch: stride of the first convolution, whose kernel is one less than twice it; 4 as published.
        hidden_norm: norm inside the channel mixers (SegFormer3D).
        eps: of the norms of blocks and stages.
        image_size: a number for images, three for volumes.
    """
    norm = Spec("layernorm", eps=eps)

    def stage(i: int) -> Spec:
        mixer = Spec("spatial_reduction", heads=heads[i], reduction=reductions[i])
        ffn = Spec("mix_ffn", ratio=ratio) if hidden_norm is None else Spec("mix_ffn", ratio=ratio, norm=hidden_norm)
        downsample = Spec("conv", kernel=3, stride=2, padding=1, norm_after=Spec("layernorm"))
        return Spec(
            "stage",
            dim=dims[i],
            depth=depths[i],
            block=Spec("prenorm", mixer=mixer, ffn=ffn, norm=norm),
            downsample=downsample if i else None,
            norm=norm,
        )

    embed = Spec("patch", size=2 * patch - 1, stride=patch, padding=patch - 1, norm=Spec("layernorm"))
    stages = [stage(i) for i in range(len(dims))]
    return Spec("pyramid", embed=embed, stages=stages, norm=None, image_size=image_size)


def segformer(backbone: Spec, dim: int, *, image_size: int | Sequence[int] = 512, num_classes: int = 150) -> Spec:
    """A SegFormer with `dim` channels in its decoder."""
    return Spec(
        "segmenter",
        backbone=backbone,
        head=Spec("mlp_decoder", dim=dim, dropout=0.1),
        norm=None,
        image_size=image_size,
        num_classes=num_classes,
        drop_path=0.1,
    )


WIDE, HEADS = (64, 128, 320, 512), (1, 2, 5, 8)
DEPTHS = {"b0": (2, 2, 2, 2), "b1": (2, 2, 2, 2), "b2": (3, 4, 6, 3), "b3": (3, 4, 18, 3), "b4": (3, 8, 27, 3)}
DEPTHS["b5"] = (3, 6, 40, 3)

VARIANTS = {
    f"segformer_{size}": segformer(
        mix_transformer((32, 64, 160, 256) if size == "b0" else WIDE, depths, HEADS),
        256 if size in ("b0", "b1") else 768,
    )
    for size, depths in DEPTHS.items()
}
# Ours, for images of 16 to 64 pixels and for tests.
VARIANTS["segformer_micro"] = segformer(
    mix_transformer((32, 64), (2, 2), (1, 2), reductions=(4, 2), patch=2, ratio=2.0), 64, image_size=32, num_classes=4
).set(drop_path=0.0, init="fan_in")
