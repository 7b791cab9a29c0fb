"""DRCT: super-resolution with groups of Swin layers that are connected densely, so that detail is not lost on the way.

Hsu et al. 2024, arXiv:2404.00722, sections 3.2 and 4.1. Train it with the task "restoration" and a degradation
"superresolution_x2" or "_x4".
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("drct",)
RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's images, in [0, 1]."""


def group(dim: int, *, heads: int, growth: int, window: int, ratios: tuple[float, ...]) -> Spec:
    """Swin layers, plain and shifted in turn; at each width the heads that the authors' rule gives.

    From `heads` the rule takes what is left over when they divide the width: 6 heads at 180 channels become 4 at 212.
    """

    def layer(j: int, ratio: float) -> Spec:
        left = heads - (dim + j * growth) % heads
        shift = "half" if j % 2 else "none"
        return Spec(
            "prenorm",
            mixer=Spec("window", heads=left, window=window, shift=shift, cap=True),
            ffn=Spec("mlp", ratio=ratio),
        )

    blocks = [layer(j, ratio) for j, ratio in enumerate(ratios)]
    return Spec("dense_residual_group", blocks=blocks, growth=growth)


def drct(
    dim: int,
    depth: int,
    *,
    heads: int = 6,
    growth: int = 32,
    window: int = 16,
    ratios: tuple[float, ...] = (2.0, 2.0, 2.0, 1.0, 1.0),
    scale: int = 4,
    features: int = 64,
    drop_path: float = 0.1,
    image_size: int = 64,
) -> Spec:
    """A DRCT of `depth` groups of `dim` channels; `ratios` are the MLPs' in the layers of a group."""
    return Spec(
        "enlarger",
        dim=dim,
        depth=depth,
        block=group(dim, heads=heads, growth=growth, window=window, ratios=ratios),
        scale=scale,
        features=features,
        mean=RGB_MEAN,
        multiple=window,
        image_size=image_size,
        drop_path=drop_path,
    )


VARIANTS = {
    **{f"drct_x{scale}": drct(180, 6, scale=scale) for scale in (2, 3, 4)},
    **{f"drct_l_x{scale}": drct(180, 12, scale=scale) for scale in (2, 3, 4)},
    # Ours, for crops of 8 to 32 pixels and for tests.
    "drct_micro": drct(
        24,
        2,
        heads=2,
        growth=8,
        window=4,
        ratios=(2.0, 1.0, 1.0),
        scale=2,
        features=24,
        drop_path=0.0,
        image_size=16,
    ).set(init="fan_in", body_std=1e-3),
}
