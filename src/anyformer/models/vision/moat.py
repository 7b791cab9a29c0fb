"""MOAT: mobile convolutions first, then blocks of mobile convolution and attention without MLPs.

Yang et al. 2022, arXiv:2210.01820, table 1; image sizes as of the authors' weights. `_no_pe` are without biases of
positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.layers.convolution.mbconv import NORM

PAPERS = ("moat",)


def moat(
    width: int,
    dim: int,
    depths: Sequence[int],
    *,
    head_dim: int = 32,
    positions: Sequence[int] | None = (14, 7),
    image_size: int = 224,
) -> Spec:
    """A MOAT with `width` channels in the stem and `dim` in the first of four stages, doubled from stage to stage.

    Attention is global at `image_size`, and in windows of that size on larger maps; `positions` are the windows whose
    tables of biases are learned, one for each of the last two stages (None: no biases).
    """

    def attention(i: int) -> Spec:
        distance = None if positions is None else Spec("resized_table", side=positions[i - 2])
        window = image_size // 2 ** (i + 2)
        return Spec("window", heads=dim * 2**i // head_dim, window=window, cap=True, distance=distance)

    def stage(i: int) -> Spec:
        if i < 2:
            # The first block strides: it is the downsampling, or the end of the stem.
            depth, down = depths[i] - 1, Spec("mbconv_downsample", excite=0.25)
            block = Spec("prenorm", mixer=Spec("mbconv", excite=0.25), norm=NORM, ffn=None)
        else:
            depth, down = depths[i], Spec("mbconv_downsample")
            block = [Spec("prenorm", mixer=attention(i), ffn=None), *[Spec("moat", mixer=attention(i))] * (depth - 1)]
        return Spec("stage", dim=dim * 2**i, depth=depth, block=block, downsample=down if i else None)

    head = Spec("classifier", norm=Spec("layernorm"))
    embed = Spec("mbconv_stem", width=width)
    stages = [stage(i) for i in range(4)]
    return Spec("pyramid", embed=embed, stages=stages, norm=None, head=head, image_size=image_size)


SHALLOW, DEEP, DEEPER = (2, 3, 7, 2), (2, 6, 14, 2), (2, 12, 28, 2)
SIZES = {
    "moat_0": (64, 96, SHALLOW, 224),
    "moat_1": (64, 96, DEEP, 224),
    "moat_2": (128, 128, DEEP, 384),
    "moat_3": (160, 160, DEEPER, 512),
    "moat_4": (256, 256, DEEPER, 512),
    "tiny_moat_0": (32, 32, SHALLOW, 256),
    "tiny_moat_1": (40, 40, SHALLOW, 256),
    "tiny_moat_2": (56, 56, SHALLOW, 256),
    "tiny_moat_3": (80, 80, SHALLOW, 256),
}
VARIANTS = {
    name + ending: moat(*sizes[:3], positions=positions, image_size=sizes[3])
    for ending, positions in (("", (14, 7)), ("_no_pe", None))
    for name, sizes in SIZES.items()
}


def micro() -> Spec:
    """Ours, for images of 8 to 64 pixels and for tests: a stage of mobile convolutions and one of MOAT blocks."""
    norm = Spec("batchnorm")
    conv = {"ratio": 2.0, "norm": norm}
    mixer = Spec("window", heads=2, window=2, cap=True)
    first = Spec("prenorm", mixer=mixer, ffn=None)
    blocks = [first, Spec("moat", mixer=mixer, conv=Spec("mbconv", **conv), conv_norm=norm)]
    stages = [
        Spec("stage", dim=32, depth=1, block=Spec("prenorm", mixer=Spec("mbconv", **conv), norm=norm, ffn=None)),
        Spec("stage", dim=64, depth=2, block=blocks, downsample=Spec("mbconv_downsample", **conv)),
    ]
    return Spec("pyramid", embed=Spec("patch", size=2), stages=stages, image_size=8, init="fan_in")


VARIANTS["moat_micro"] = micro()
