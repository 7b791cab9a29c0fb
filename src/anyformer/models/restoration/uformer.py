"""Uformer: a U-shape of window attention that restores images, with convolutions in its MLPs and modulators going up.

Wang et al. 2021, arXiv:2106.03106, sections 3 and 4.1. Train it with the task "restoration".
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("uformer",)


def uformer(
    dim: int,
    depths: Sequence[int] = (2,) * 9,
    *,
    head_dim: int | None = None,
    window: int = 8,
    shift: str = "half",
    ratio: float = 4.0,
    multiple: int | None = None,
    rest: str = "refuse",
    drop_path: float = 0.1,
    image_size: int = 128,
) -> Spec:
    """A Uformer with `dim` channels in its first stage, doubled from stage to stage.

    Args:
        depths: blocks of every stage: down, bottleneck, up.
        head_dim: channels of a head (None: `dim`).
        shift: "half" to shift every second block's windows; "none".
        multiple: sides of images (None: such that windows tile the coarsest map).
        rest: what becomes of other images, "refuse" or "reflect".
    """
    down, up = len(depths) // 2 + 1, len(depths) // 2
    head_dim = dim if head_dim is None else head_dim

    def blocks(mixer: str, heads: int) -> list[Spec]:
        # Small maps have one window, as small as they are.
        return [
            Spec(
                "prenorm",
                mixer=Spec(mixer, heads=heads, window=window, shift=s, cap=True),
                ffn=Spec("leff", ratio=ratio),
            )
            for s in ("none", shift)
        ]

    stages = [
        Spec(
            "stage",
            dim=dim * 2**i,
            depth=depths[i],
            block=blocks("window", dim * 2**i // head_dim),
            downsample=Spec("conv", kernel=4, stride=2, padding=1) if i else None,
        )
        for i in range(down)
    ]
    ups = [
        Spec(
            "up_stage",
            dim=dim * 2 ** (up - i),
            depth=depths[down + i],
            block=blocks("modulated_window", dim * 2 ** (up - i) // head_dim),
            upsample=Spec("transposed_conv"),
            skip=Spec("concat"),
        )
        for i in range(up)
    ]
    return Spec(
        "ushape",
        stages=stages,
        up=ups,
        embed=Spec("patch", size=3, stride=1, padding=1, act=Spec("leaky_relu")),
        head=Spec("map_head", kernel=3),
        global_residual=Spec("add"),
        multiple=window * 2**up if multiple is None else multiple,
        rest=rest,
        image_size=image_size,
        num_classes=3,
        drop_path=drop_path,
    )


BASE = (1, 2, 8, 8, 2, 8, 8, 2, 1)

VARIANTS = {
    "uformer_t": uformer(16),
    "uformer_s": uformer(32),
    "uformer_s_noshift": uformer(32, shift="none"),
    "uformer_b": uformer(32, BASE),
    # Ours, for crops of 16 to 64 pixels and for tests; other sizes are filled up. It starts near the identity.
    "uformer_micro": uformer(
        16, (1, 1, 2, 1, 1), window=4, ratio=2.0, rest="reflect", drop_path=0.0, image_size=32
    ).set(init="fan_in", head=Spec("map_head", kernel=3, std=0.01)),
}
