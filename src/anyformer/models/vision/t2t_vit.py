"""T2T-ViT: overlapping tokens that grow from tokens to token, then a deep and narrow ViT.

Yuan et al. 2021, arXiv:2101.11986, table 1. "t" stands for softmax attention in the tokens-to-token module, in place of
a Performer's.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("t2t_vit",)


def t2t_vit(
    dim: int,
    depth: int,
    heads: int,
    *,
    ratio: float,
    step: str = "token_performer",
    scoring: Spec = Spec("width_softmax"),
    image_size: int = 224,
) -> Spec:
    """A T2T-ViT.

    Args:
        dim, depth, heads, ratio: channels, blocks, heads and the MLPs' hidden channels per channel.
        step: what the fine tokens meet in, "token_performer" or "token_transformer".
        scoring: of the blocks; the authors' weights are made for scores divided by the root of all channels.
        image_size: side of the image.
    """
    return Spec(
        "isotropic",
        dim=dim,
        depth=depth,
        embed=Spec("tokens_to_token", step=Spec(step)),
        position=Spec("sinusoidal_table"),
        block=Spec(
            "prenorm",
            mixer=Spec("attention", heads=heads, bias=False, scoring=scoring),
            ffn=Spec("mlp", ratio=ratio),
        ),
        head=Spec("classifier", pool=Spec("class")),
        image_size=image_size,
    )


SIZES: dict[str, tuple[tuple[int, int, int], float]] = {  # dim, depth, heads; MLP ratio
    "7": ((256, 7, 4), 2.0),
    "10": ((256, 10, 4), 2.0),
    "12": ((256, 12, 4), 2.0),
    "14": ((384, 14, 6), 3.0),
    "19": ((448, 19, 7), 3.0),
    "24": ((512, 24, 8), 3.0),
}
VARIANTS = {f"t2t_vit_{size}": t2t_vit(*shape, ratio=ratio) for size, (shape, ratio) in SIZES.items()}
VARIANTS |= {
    f"t2t_vit_t_{size}": t2t_vit(*SIZES[size][0], ratio=SIZES[size][1], step="token_transformer")
    for size in ("14", "19", "24")
}
VARIANTS |= {  # more heads, and fewer but wider blocks
    "t2t_vit_14_resnext": t2t_vit(384, 14, 32, ratio=3.0),
    "t2t_vit_14_wide": t2t_vit(768, 4, 12, ratio=3.0, scoring=Spec("width_softmax", width=512)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "t2t_vit_micro": t2t_vit(64, 4, 4, ratio=2.0, step="token_transformer", image_size=8)
    .set(init="fan_in")
    .replace("block.mixer.scoring", Spec("softmax"))
    .replace(
        "embed",
        Spec(
            "tokens_to_token",
            width=16,
            kernels=(3, 3),
            strides=(1, 2),
            paddings=(1, 1),
            step=Spec("token_transformer"),
        ),
    ),
}
