"""FcaFormer: convolutions, then attention whose blocks also see summaries of the blocks before them.

Zhang et al. 2022, arXiv:2211.07198, section 3 (the hybrid models), with the sizes of the authors'
repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from anyformer.core.spec import Spec
from anyformer.models.vision.convnext import block as convnext_block

PAPERS = ("fcaformer",)


def fcaformer(
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    scale: float = 1e-6,
    ratio: float = 4.0,
    summary: int = 4,
    strides: Sequence[int] = (2, 2),
    image_size: int = 224,
) -> Spec:
    """A FcaFormer; `heads` are of its last stages, the ones before are of convolutions.

    Args:
        dims, depths: channels and blocks of each stage.
        heads: of each stage with attention.
        scale: where LayerScale starts.
        ratio: hidden channels per channel.
        summary: tokens along each axis that become one cross token.
        strides: of the stem's convolutions.
        image_size: side of the image, for whose grids biases are built.
    """
    convolutional = len(dims) - len(heads)
    residual = Spec("layer_scale", init=scale)

    def stage(i: int) -> Spec:
        downsample = Spec("separable_merge") if i else None
        if i < convolutional:
            block = convnext_block(Spec("layernorm", eps=1e-6), scale, ratio=ratio)
            return Spec("stage", dim=dims[i], depth=depths[i], block=block, downsample=downsample)
        block = Spec(
            "fca_prenorm",
            mixer=Spec("forward_cross", heads=heads[i - convolutional]),
            # The authors' MLP norms what the block has normed.
            ffn=Spec("normed_mlp", ratio=ratio, in_norm=Spec("layernorm"), hidden_norm=None, out_norm=None),
            residual=residual,
            summary=summary,
        )
        return Spec("fca_stage", dim=dims[i], depth=depths[i], block=block, downsample=downsample)

    return Spec(
        "pyramid",
        embed=Spec("conv_stem", strides=tuple(strides), act=Spec("gelu"), bias=False),
        stages=[stage(i) for i in range(len(dims))],
        norm=None,
        head=Spec("classifier", norm=Spec("layernorm")),
        image_size=image_size,
    )


VARIANTS = {
    "fcaformer_l1": fcaformer((64, 128, 192, 320), (2, 2, 6, 2), (6, 10)),
    "fcaformer_l2": fcaformer((96, 192, 320, 480), (2, 2, 7, 2), (10, 15)),
    "fcaformer_l3": fcaformer((96, 192, 320, 512), (3, 6, 12, 3), (10, 16)),
    "fcaformer_l4": fcaformer((128, 256, 512, 768), (3, 6, 12, 3), (16, 24)),
    # Ours, for images of 8 to 64 pixels and for tests; LayerScale starts at 1, as the net is shallow.
    "fcaformer_micro": fcaformer(
        (24, 48), (1, 3), (4,), scale=1.0, ratio=2.0, summary=2, strides=(2, 1), image_size=8
    ).set(init="fan_in"),
}
