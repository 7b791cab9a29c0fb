"""SReT: a pyramid whose blocks are applied twice with the same weights, attending in slices to pay for it.

Shen et al. 2021, arXiv:2111.05297, tables of section 4, and the authors' repository, where the larger tiny model (TL
in the paper) is called LT. Models "without slice" attend among all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("sret",)


def sret(
    head_dim: int,
    heads: Sequence[int],
    depths: Sequence[int],
    *,
    ratio: float,
    projection: float = 1.0,
    groups: Sequence[tuple[int, ...]] = ((8, 2), (4, 1), (1, 1)),
    repeats: int = 2,
    strides: Sequence[int] = (2, 2, 2),
    image_size: int = 224,
) -> Spec:
    """An SReT.

    Args:
        head_dim, heads: channels of a head, and heads of every stage; together its channels.
        depths: blocks of every stage, each with weights of its own.
        ratio, projection: hidden channels per channel of the blocks' MLPs, and of those between repeats.
        groups: slices of every stage in each repeat.
        repeats: how often each block is applied.
        strides: of the stem's 3x3 convolutions.
    """
    norm = Spec("layernorm", eps=1e-6)
    stages = [
        Spec(
            "stage",
            dim=head_dim * heads[i],
            depth=depth,
            block=Spec(
                "recursive",
                repeats=repeats,
                mixer=Spec("sliced", heads=heads[i], groups=groups[i]),
                ffn=Spec("mlp", ratio=ratio),
                projection=Spec("mlp", ratio=projection),
                norm=norm,
            ),
            downsample=Spec("depthwise_downsample") if i else None,
            position=None if i else Spec("learned"),
        )
        for i, depth in enumerate(depths)
    ]
    return Spec(
        "pyramid",
        embed=stem(head_dim * heads[0], strides),
        stages=stages,
        norm=None,
        head=Spec("classifier", norm=norm),
        image_size=image_size,
    )


def stem(dim: int, strides: Sequence[int]) -> Spec:
    """3x3 convolutions with batch norm and ReLU after each; the first of several has half of the channels."""
    widths = (0.5, *[dim] * (len(strides) - 2)) if len(strides) > 1 else ()
    return Spec("conv_stem", widths=widths, strides=tuple(strides), out_act=Spec("relu"))


HEADS, DEPTHS = (2, 4, 8), (2, 5, 3)
WHOLE = ((1,), (1,), (1,))
SIZES = {
    "sret_t": (32, HEADS, 3.6, 1.0),
    "sret_tl": (32, HEADS, 4.0, 1.0),
    "sret_s": (42, (3, 6, 12), 3.0, 2.0),
}

VARIANTS = {
    name: sret(dim, heads, DEPTHS, ratio=ratio, projection=projection)
    for name, (dim, heads, ratio, projection) in SIZES.items()
}
VARIANTS |= {
    f"{name}_wo_slice": sret(dim, heads, DEPTHS, ratio=ratio, projection=projection, groups=WHOLE)
    for name, (dim, heads, ratio, projection) in SIZES.items()
}
VARIANTS |= {
    # The same slices for less: 16 and 14 in the first repeat, none in the second.
    "sret_tl_16_14": sret(32, HEADS, DEPTHS, ratio=4.0, groups=((16, 1), (14, 1), (1, 1))),
    "sret_t_wo_slice_384": sret(32, HEADS, DEPTHS, ratio=3.6, groups=WHOLE, image_size=384),
    "sret_s_wo_slice_384": sret(42, (3, 6, 12), DEPTHS, ratio=3.0, projection=2.0, groups=WHOLE, image_size=384),
    "sret_s_wo_slice_512": sret(42, (3, 6, 12), DEPTHS, ratio=3.0, projection=2.0, groups=WHOLE, image_size=512),
    # Ours, for images of 8 to 64 pixels and for tests.
    "sret_micro": sret(
        16, (2, 4), (1, 1), ratio=2.0, groups=((4, 2), (2, 1)), strides=(2,), image_size=8
    ).set(init="fan_in"),
}  # fmt: skip
