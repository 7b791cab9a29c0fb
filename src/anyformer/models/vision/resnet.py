"""ResNet: stages of convolutional residual blocks; the backbone of most detectors.

He et al. 2015, arXiv:1512.03385, table 1, with the stride in the 3x3 convolutions (torchvision, timm).
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("group_detr",)


def resnet(
    kind: str,
    dims: Sequence[int],
    depths: Sequence[int],
    *,
    stem: int = 64,
    embed: Spec = Spec("pooled_stem"),
    image_size: int = 224,
) -> Spec:
    """A ResNet of "basic" blocks or of "bottleneck" ones; `dims` are what leaves each stage.

    A stage begins with a block of its own where channels or grid change, which is everywhere but in the first stage of
    a ResNet of basic blocks.
    """
    block = Spec("basic_block" if kind == "basic" else "bottleneck")
    stages, inputs = [], stem
    for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        start = Spec(f"{kind}_start", stride=2 if i else 1) if i or inputs != dim else None
        rest = depth - (start is not None)
        stages.append(Spec("stage", inputs=inputs, dim=dim, depth=rest, block=block, downsample=start))
        inputs = dim
    embed = embed.set(dim=stem)
    return Spec("pyramid", embed=embed, stages=stages, norm=None, head=Spec("classifier"), image_size=image_size)


BASIC, WIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)
VARIANTS = {
    "resnet18": resnet("basic", BASIC, (2, 2, 2, 2)),
    "resnet34": resnet("basic", BASIC, (3, 4, 6, 3)),
    "resnet50": resnet("bottleneck", WIDE, (3, 4, 6, 3)),
    "resnet101": resnet("bottleneck", WIDE, (3, 4, 23, 3)),
    "resnet152": resnet("bottleneck", WIDE, (3, 8, 36, 3)),
    # Ours, for images of 8 to 64 pixels and for tests.
    "resnet_micro": resnet(
        "basic", (32, 64), (1, 1), stem=32, embed=Spec("patch", size=3, stride=1, padding=1), image_size=8
    ).set(init="fan_in"),
}
