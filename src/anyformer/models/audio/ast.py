"""AST: a distilled ViT over overlapping patches of a log-mel spectrogram.

Gong et al. 2021, arXiv:2104.01778, section 2. Spectrograms enter as images of one channel, `(b, 1, mels, frames)`, as
`layers/spectral/mel.py` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.models.vision.vit import SIZES

PAPERS = ()


def ast(
    dim: int,
    depth: int,
    heads: int,
    *,
    ratio: float = 4.0,
    patch: int = 16,
    stride: int = 10,
    size: Sequence[int] = (128, 1024),
    num_classes: int = 527,
) -> Spec:
    """An AST.

    Args:
        dim, depth, heads, ratio: channels, blocks, heads, hidden channels of the MLP per channel.
        patch, stride: bands and frames of a patch, and from one patch to the next.
        size: bands and frames of the spectrogram that positions are made for; others get them resized.
    """
    norm = Spec("layernorm", eps=1e-6)
    return Spec(
        "isotropic",
        dim=dim,
        depth=depth,
        embed=Spec("patch", size=patch, stride=stride, rest="drop"),
        position=Spec("learned", resize="bilinear"),
        block=Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=ratio), norm=norm),
        norm=norm,
        head=Spec("classifier", pool=Spec("class_pair"), norm=Spec("layernorm", eps=1e-5)),
        image_size=tuple(size),
        in_channels=1,
        num_classes=num_classes,
    )


VARIANTS = {
    f"ast_{name}": ast(*SIZES[size][0])
    for name, size in (("tiny224", "tiny"), ("small224", "small"), ("base224", "base"), ("base384", "base"))
}
# Ours, for half a second of sound and for tests.
VARIANTS["ast_micro"] = ast(64, 3, 4, ratio=2.0, patch=8, stride=6, size=(64, 48), num_classes=8).set(init="fan_in")
