"""DuoFormer: attention across the scales of a ResNet inside each cell, then a ViT over the cells.

Tang et al. 2025, arXiv:2506.12982; widths, heads and depths as in the authors' code. There, attention over
the cells comes without norms, shortcuts and MLPs; here cells pass through the blocks of a ViT.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.models.vision.resnet import VARIANTS as RESNET

PAPERS = ("duoformer",)
NORM = Spec("layernorm", eps=1e-6)


def duoformer(
    trunk: Spec,
    dim: int,
    heads: int,
    *,
    stages: Sequence[int] = (0, 1, 2, 3),
    depths: tuple[int, int] = (12, 12),
    token: str | None = "maps",
    ratio: float = 4.0,
    pool: str = "class",
    image_size: int = 224,
) -> Spec:
    """A DuoFormer.

    Args:
        trunk: the pyramid whose maps are used.
        dim, heads: channels and heads of both kinds of attention.
        stages: of the trunk, whose maps are used.
        depths: blocks of attention across scales, and of attention over the cells.
        token: scale token, as `ScaleCells`'s.
        ratio: hidden channels per channel of the MLPs.
        pool: what the head reads, a class token or the mean of the cells.
        image_size: pixels along each axis.
    """
    block = Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio), norm=NORM)
    across, over = depths
    cells = Spec("scale_cells", trunk=trunk, stages=tuple(stages), depth=across, block=block, token=token)
    return Spec(
        "isotropic",
        dim=dim,
        depth=over,
        embed=cells,
        block=block,
        position=Spec("learned"),
        norm=NORM,
        head=Spec("classifier", pool=Spec(pool)),
        image_size=image_size,
    )


VARIANTS = {
    "duoformer_resnet50": duoformer(RESNET["resnet50"], 768, 12),
    "duoformer_resnet50_3scales": duoformer(RESNET["resnet50"], 768, 12, stages=(1, 2, 3)),
    "duoformer_resnet50_2scales": duoformer(RESNET["resnet50"], 768, 12, stages=(2, 3)),
    "duoformer_resnet18": duoformer(RESNET["resnet18"], 768, 12),
    "duoformer_resnet18_2scales": duoformer(RESNET["resnet18"], 768, 12, stages=(2, 3)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "duoformer_micro": duoformer(
        RESNET["resnet_micro"], 32, 2, stages=(0, 1), depths=(1, 2), ratio=2.0, pool="mean", image_size=8
    ).set(init="fan_in"),
}
