"""LoLA-SpecViT: the pixel in the middle of a hyperspectral patch, by local attention behind spectral convolutions.

Zidi et al. 2025, arXiv:2506.17759, in the sizes of the authors' code: patches of 15x15 pixels and 15 components of the
bands. Its low-rank updates and their cycles are `methods/adaptation/lola.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyformer.core.spec import Spec

PAPERS = ("lola_specvit",)


def lola_specvit(
    dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    window: int = 7,
    ratio: float = 4.0,
    stem: dict[str, Any] | None = None,
    excite: float = 1 / 16,
    patch: int = 15,
    bands: int = 15,
) -> Spec:
    """A LoLA-SpecViT with `dim` channels in the first stage, doubled from stage to stage.

    Maps that are smaller than a window are filled up with zeros, which the windows see, as the authors' are.
    """

    def block(i: int) -> Spec:
        mixer = Spec("window", heads=heads[i], window=window, grid=(None, None))
        return Spec("prenorm", mixer=mixer, ffn=Spec("wide_swiglu", ratio=ratio))

    stages = [
        Spec(
            "stage",
            dim=dim * 2**i,
            depth=depth,
            block=block(i),
            position=None if i else Spec("learned"),
            downsample=Spec("excited", excite=excite) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    embed = Spec("spectral_stem", **{"excite": excite, **(stem or {})})
    return Spec("pyramid", embed=embed, stages=stages, image_size=patch, in_channels=bands, num_classes=9)


VARIANTS = {
    "lola_specvit": lola_specvit(96, (3, 4, 19), (4, 8, 16)),
    # Ours, for patches of 5 to 31 pixels and for tests.
    "lola_specvit_micro": lola_specvit(
        16, (1, 1), (2, 4), window=3, ratio=2.0, stem={"widths": (4, 8)}, excite=0.25, patch=9, bands=8
    ).set(init="fan_in"),
}
