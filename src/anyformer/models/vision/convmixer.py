"""ConvMixer: patches, then large depthwise and pointwise convolutions at constant width and resolution.

Trockman and Kolter 2022, arXiv:2201.09792, table 1. Named by width and depth.
"""

from __future__ import annotations

from anyformer.core.spec import Spec

PAPERS = ("convmixer",)


def convmixer(dim: int, depth: int, *, kernel: int, patch: int, act: str = "gelu", image_size: int = 224) -> Spec:
    """A ConvMixer with filters of kernel x kernel patches."""
    activation = Spec(act)
    # The filters start with the variance of torch's own convolutions, as the authors' do.
    mixer = Spec("depthwise", kernel=kernel, std=(3 * kernel**2) ** -0.5)
    return Spec(
        "isotropic",
        dim=dim,
        depth=depth,
        embed=Spec("patch", size=patch, act=activation, norm=Spec("batchnorm"), rest="drop"),
        block=Spec("convmixer_block", mixer=mixer, act=activation),
        norm=None,
        image_size=image_size,
    )


VARIANTS = {
    "convmixer_1536_20": convmixer(1536, 20, kernel=9, patch=7),
    "convmixer_768_32": convmixer(768, 32, kernel=7, patch=7, act="relu"),
    "convmixer_1024_20": convmixer(1024, 20, kernel=9, patch=14),
    # Ours, for images of 8 to 32 pixels and for tests.
    "convmixer_micro": convmixer(96, 6, kernel=5, patch=2, image_size=8).set(init="fan_in"),
}
