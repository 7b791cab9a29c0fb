"""BEiT: a ViT with relative positions in every block, pretrained by predicting the visual tokens of masked patches.

Bao et al. 2021, arXiv:2106.08254, appendix; BEiT v2, Peng et al. 2022, arXiv:2208.06366, has the same encoder with
branches that start smaller. Here are the fine-tuned forms: the mean over patches is normed and classified. The form in
which it is pretrained, with one bias for all blocks, is `relative_vit`.
"""

from __future__ import annotations

from typing import Any

from anyformer.blocks.isotropic import Isotropic
from anyformer.core.init import chooses_start
from anyformer.core.spec import Spec
from anyformer.models.vision.relative_vit import attentions, grid_bias

PAPERS = ("ecg_vit",)


class BEiT(Isotropic):
    """The isotropic skeleton with a bias of attention scores in every block: images to logits `(b, num_classes)`.

    Bao et al. 2021, arXiv:2106.08254. Serves the grid of its `image_size`; another one raises `SizeError`, which says
    to build the model for it.

    Args:
        bias: built for each block, and the grid of `image_size`.
        position: absolute positions beside it; None for none.
        options: as `Isotropic`'s.

    Raises:
        FitError: a mixer that takes no bias.
        SizeError: an image of another size, when it is called.
    """

    name = "beit"
    papers = ("ecg_vit",)

    @chooses_start
    def __init__(self, *, bias: Spec = Spec("grid_table"), position: Spec | None = None, **options: Any):
        super().__init__(position=position, **options)
        for mixer in attentions(self):
            mixer.distance = grid_bias(self, bias)


def beit(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    *,
    ratio: float = 4.0,
    scale: float = 1e-5,
    image_size: int = 224,
) -> Spec:
    """A BEiT: a class token that the mean leaves out, no bias of the keys, branches that start at `scale`."""
    norm = Spec("layernorm", eps=1e-6)
    block = Spec(
        "prenorm",
        mixer=Spec("attention", heads=heads, bias="qv"),
        ffn=Spec("mlp", ratio=ratio),
        norm=norm,
        residual=Spec("layer_scale", init=scale),
    )
    return Spec(
        "beit",
        dim=dim,
        depth=depth,
        block=block,
        embed=Spec("patch", size=patch),
        registers=1,
        norm=None,
        head=Spec("classifier", norm=norm),
        image_size=image_size,
    )


BASE, LARGE = (768, 12, 12), (1024, 24, 16)

VARIANTS = {
    "beit_base": beit(*BASE, scale=0.1),
    "beit_base_384": beit(*BASE, scale=0.1, image_size=384),
    "beit_large": beit(*LARGE),
    "beit_large_384": beit(*LARGE, image_size=384),
    "beit_large_512": beit(*LARGE, image_size=512),
    "beit_v2_base": beit(*BASE),
    "beit_v2_large": beit(*LARGE),
    # Ours, for images of 8 to 32 pixels and for tests.
    "beit_micro": beit(64, 4, 4, 2, ratio=2.0, scale=1.0, image_size=8).set(init="fan_in"),
}
