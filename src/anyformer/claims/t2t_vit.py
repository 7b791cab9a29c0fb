"""Yuan et al. 2021, arXiv:2101.11986: tokens that grow out of their neighbours beat plain patches on few images.

500 digits enlarged to 32x32. Both models have 8x8 tokens, and the same blocks; tokens-to-token comes to them by
overlapping windows of 5x5, 3x3 and 3x3, patches of 4x4 in one step.
"""

from __future__ import annotations

from anyformer.claims._images import accuracy, digits_at, fit, images_task
from anyformer.core.spec import Spec
from anyformer.lab.claim import Claim, Expect

CLAIM = Claim(
    statement="On few images a ViT of the same width and depth is better with tokens-to-token than with patches.",
    baseline="The same ViT on patches of 4x4; the same epochs and learning rate.",
    expect=(Expect("t2t_minus_patches", at_least=1.0, unit="points of test accuracy"),),
    seeds=(1, 2, 3),
)
IMAGES, EPOCHS = 500, 20
EMBEDS = {
    "t2t": Spec(
        "tokens_to_token",
        width=16,
        kernels=(5, 3, 3),
        strides=(2, 2, 1),
        paddings=(2, 1, 1),
        step=Spec("token_transformer"),
    ),
    "patches": Spec("patch", size=4),
}


def model(embed: Spec) -> Spec:
    """Four narrow blocks with fixed positions and a class token."""
    block = Spec("prenorm", mixer=Spec("attention", heads=4, bias=False), ffn=Spec("mlp", ratio=2.0))
    return Spec(
        "isotropic",
        dim=64,
        depth=4,
        embed=embed,
        position=Spec("sinusoidal_table"),
        block=block,
        head=Spec("classifier", pool=Spec("class")),
    )


def measure(seed: int) -> dict[str, float]:
    """Test accuracy of both on the digits at 32x32, after 500 training images."""
    task = images_task(digits_at(32, seed, train_images=IMAGES), classes=10, crop=2)
    found = {
        name: 100 * accuracy(fit(model(embed), task, seed, EPOCHS, learning_rate=3e-3), task)
        for name, embed in EMBEDS.items()
    }
    return found | {"t2t_minus_patches": found["t2t"] - found["patches"]}
