"""EMOv2 and EMO: one kind of residual block, which widens, convolves and narrows, with attention for the widening.

Zhang et al. 2024, arXiv:2412.06674, section 3, with windows of neighbours and windows that span the map;
EMO (Zhang et al. 2023, arXiv:2301.01146) has the latter alone, and smaller filters.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec

PAPERS = ("emo_v2",)

BATCH, LAYER = Spec("batchnorm", eps=1e-6), Spec("layernorm", eps=1e-6)


def emo(
    dims: Sequence[int],
    depths: Sequence[int],
    ratios: Sequence[float],
    head_dims: Sequence[int],
    *,
    kernels: Sequence[int] = (5, 5, 5, 5),
    window: int = 7,
    windows: str = "both",
    convolutional: int = 2,
    scale: float = 1e-6,
    stride: int = 2,
    image_size: int = 224,
) -> Spec:
    """An EMO.

    Args:
        dims, depths: channels and blocks of each stage; the first block of each is the strided one.
        ratios: hidden channels per channel; twice as many in strided blocks.
        head_dims: channels of a head, of the stages with attention.
        kernels: sides of the depthwise filters of each stage.
        window, windows: tokens along each axis of a window, and which windows ("close", "remote" or "both").
        convolutional: stages whose widening is a linear map; they have batch norms and SiLU, the others layer norms
            and GELU.
        scale: where LayerScale starts.
        stride: of the stem's convolution.
        image_size: side of the image.
    """

    def kind(i: int) -> tuple[Spec, Spec]:
        return (BATCH, Spec("silu")) if i < convolutional else (LAYER, Spec("gelu"))

    def strided(i: int) -> Spec:
        norm, act = kind(i)
        options = {"ratio": 2 * ratios[i], "kernel": kernels[i], "scale": scale}
        return Spec("mobile_downsample", norm=norm, act=act, **options)

    def stage(i: int) -> Spec:
        norm, act = kind(i)
        mixer = Spec("mobile", ratio=ratios[i], kernel=kernels[i], act=act)
        if i >= convolutional:
            mixer = Spec(
                "spanning_window",
                head_dim=head_dims[i - convolutional],
                window=window,
                windows=windows,
                **mixer.options,
            )
        block = Spec("prenorm", mixer=mixer, ffn=None, norm=norm, residual=Spec("layer_scale", init=scale))
        return Spec("stage", dim=dims[i], depth=depths[i] - 1, block=block, downsample=strided(i) if i else None)

    return Spec(
        "pyramid",
        embed=Spec("mobile_stem", stride=stride, downsample=strided(0)),
        stages=[stage(i) for i in range(len(dims))],
        norm=LAYER,
        image_size=image_size,
    )


SIZES = {
    "1m": ((32, 48, 80, 180), (2, 2, 8, 3), (2.0, 2.5, 3.0, 3.5), (20, 20)),
    "2m": ((32, 48, 120, 200), (3, 3, 9, 3), (2.0, 2.5, 3.0, 3.5), (20, 20)),
    "5m": ((48, 72, 160, 288), (3, 3, 9, 3), (2.0, 3.0, 4.0, 4.0), (32, 32)),
    "20m": ((64, 128, 320, 448), (3, 3, 13, 3), (2.0, 3.0, 4.0, 4.0), (32, 32)),
    "50m": ((64, 128, 384, 512), (5, 8, 20, 7), (2.0, 3.0, 4.0, 4.0), (32, 32)),
}

VARIANTS = {f"emo_v2_{size}": emo(*shape) for size, shape in SIZES.items()}
VARIANTS |= {f"emo_v2_{size}_256": emo(*SIZES[size], window=8, image_size=256) for size in ("1m", "2m", "5m", "20m")}
VARIANTS |= {f"emo_v2_{size}_512": emo(*SIZES[size], window=8, image_size=512) for size in ("1m", "2m", "5m")}
VARIANTS |= {
    f"emo_{size}": emo(*SIZES[size], kernels=(3, 3, 5, 5), windows="remote") for size in ("1m", "2m", "5m", "20m")
}
# Ours, for images of 8 to 64 pixels and for tests; LayerScale starts at 1, as the net is shallow.
VARIANTS["emo_v2_micro"] = emo(
    (32, 64), (2, 3), (1.0, 2.0), (8,), kernels=(3, 3), window=2, convolutional=1, scale=1.0, stride=1, image_size=8
).set(init="fan_in")
