"""CLIP: an image tower and a text tower that are trained to give a picture and its caption the same vector.

Radford et al. 2021, arXiv:2103.00020, figure 3 and tables 19 and 20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from anyformer.blocks.model import Model
from anyformer.core.build import build
from anyformer.core.errors import DataError, FitError
from anyformer.core.init import Start, chooses_start, linear
from anyformer.core.spec import Spec
from anyformer.models.factory import model_spec
from anyformer.models.vision.resnet import resnet

PAPERS = ()
HOTTEST = 100.0
"""The largest factor of a cosine: section 2.5 keeps it from making training unstable."""


class CLIP(Model):
    """Images `(b, 3, h, w)` and texts `(t, n)` to scores `(b, t)`: the cosine of their vectors, times a learned factor.

    The text's vector is read at its first `end`, which has seen all words before it. Both towers are linearly
    projected to `embed_dim`. Cost: each tower once, then b t embed_dim multiply-adds.

    Args:
        image: an image model; without classes it gives one vector per image.
        text: a causal decoder; without a head it gives its tokens.
        embed_dim: channels that image and text share.
        project_image: whether the image tower is projected, or gives `embed_dim` by itself (attention pooling).
        end: id that ends a text.
        temperature: of the first scores; learned.
        image_size, in_channels: of the image tower; None for its own.
        vocab_size, max_length: of the text tower; None for its own.
        init: as `Isotropic`'s.

    Raises:
        FitError: a text tower that is no decoder.
        DataError: a text without `end`, ids outside the vocabulary.
        SizeError: a text longer than the learned positions.
    """

    name = "clip"

    @chooses_start
    def __init__(
        self,
        *,
        image: Spec,
        text: Spec,
        embed_dim: int,
        project_image: bool = True,
        end: int = 49407,
        temperature: float = 0.07,
        image_size: int | Sequence[int] | None = None,
        in_channels: int | None = None,
        vocab_size: int | None = None,
        max_length: int | None = None,
        init: Start = "published",
    ):
        super().__init__()
        if text.name != "decoder":
            raise FitError(f"CLIP's text tower is a causal decoder, such as gpt2_micro's Spec; given {text.name}.")
        seen = {"image_size": image_size, "in_channels": in_channels, "num_classes": 0 if project_image else embed_dim}
        read = {"vocab_size": vocab_size, "max_length": max_length, "num_classes": 0}
        self.image: Any = build(_given(image, seen, init), "model")
        self.text: Any = build(_given(text, read, init), "model")
        self.vocab_size, self.max_length, self.end = self.text.vocab_size, self.text.max_length, end
        width = image.options["dim"] if project_image else embed_dim
        self.project_image = linear(width, embed_dim, bias=False, std=width**-0.5) if project_image else None
        self.project_text = linear(text.options["dim"], embed_dim, bias=False, std=text.options["dim"] ** -0.5)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def image_features(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b e"]:
        """The vector of each image, of any length."""
        pooled = self.image(images)
        return pooled if self.project_image is None else self.project_image(pooled)

    def text_features(self, ids: Int[Tensor, "t n"]) -> Float[Tensor, "t e"]:
        """The vector of each text, of any length; what stands behind its first `end` is not read."""
        ends = ids == self.end
        if not torch.compiler.is_compiling() and not bool(ends.any(1).all()):
            row = int((~ends.any(1)).nonzero()[0])
            raise DataError(f"every text ends with the id {self.end}; row {row} does not: append it, then any padding.")
        tokens = self.text.tokens(ids)
        last = ends.int().argmax(1)[:, None, None].expand(-1, 1, tokens.shape[-1])
        return self.project_text(tokens.gather(1, last)[:, 0])

    def encode_image(self, images: Float[Tensor, "b i *size"]) -> Float[Tensor, "b e"]:
        """The vector of each image, of length 1."""
        return nn.functional.normalize(self.image_features(images), dim=-1)

    def encode_text(self, ids: Int[Tensor, "t n"]) -> Float[Tensor, "t e"]:
        """The vector of each text, of length 1."""
        return nn.functional.normalize(self.text_features(ids), dim=-1)

    def similarity(self, images: Float[Tensor, "b e"], texts: Float[Tensor, "t e"]) -> Float[Tensor, "b t"]:
        """Scores of vectors of length 1."""
        return self.logit_scale.exp().clamp(max=HOTTEST) * images @ texts.t()

    def forward(self, images: Float[Tensor, "b i *size"], ids: Int[Tensor, "t n"]) -> Float[Tensor, "b t"]:
        return self.similarity(self.encode_image(images), self.encode_text(ids))

    def class_vectors(self, prompts: Sequence[Int[Tensor, "p n"]]) -> Float[Tensor, "classes e"]:
        """One vector per class: the mean over its prompts ("a photo of a cat", ...), of length 1 (section 3.1.4)."""
        if not prompts or any(p.ndim != 2 or not len(p) for p in prompts):
            raise DataError("zero-shot classification takes one or more prompts (p, n) of ids for each class.")
        return nn.functional.normalize(torch.stack([self.encode_text(p).mean(0) for p in prompts]), dim=-1)

    def classify(
        self, images: Float[Tensor, "b i *size"], prompts: Sequence[Int[Tensor, "p n"]]
    ) -> Float[Tensor, "b classes"]:
        """Zero-shot classification: scores of classes that are given by prompts alone; softmax makes probabilities."""
        return self.similarity(self.encode_image(images), self.class_vectors(prompts))

    def features(
        self, images: Float[Tensor, "b i *size"], layers: Sequence[int] | None = None
    ) -> list[Float[Tensor, "b c *grid"]]:
        """The image tower's maps, as its own `features`."""
        return self.image.features(images, layers)

    def example_inputs(self, size: int | Sequence[int] | None = None, batch: int = 1) -> tuple[Tensor, ...]:
        """Random images of `size`, and as many random texts of up to 8 ids, the last of them `end`."""
        (ids,) = self.text.example_inputs(min(8, self.max_length), batch)
        return *self.image.example_inputs(size, batch), torch.cat(
            [ids[:, :-1], torch.full_like(ids[:, :1], self.end)], 1
        )


def contrastive_loss(scores: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of finding each image's text and each text's image, which stand in the diagonal.

    Section 2.3, figure 3; in nats, log b for scores that tell nothing.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise DataError(f"the contrastive loss takes as many texts as images; given scores {tuple(scores.shape)}.")
    truth = torch.arange(len(scores), device=scores.device)
    return (nn.functional.cross_entropy(scores, truth) + nn.functional.cross_entropy(scores.t(), truth)) / 2


def _given(spec: Spec, options: dict[str, Any], init: Start) -> Spec:
    """A tower with the options that were given, and with CLIP's start unless it names its own."""
    return spec.set(**{"init": init, **spec.options, **{k: v for k, v in options.items() if v is not None}})


def text_tower(dim: int, heads: int, depth: int = 12, *, act: str = "quick_gelu", **options: Any) -> Spec:
    """A GPT-2 of 77 learned positions."""
    block = Spec("prenorm", mixer=Spec("attention", heads=heads), ffn=Spec("mlp", ratio=4.0, act=Spec(act)))
    return Spec(
        "decoder",
        **{"dim": dim, "depth": depth, "block": block, "vocab_size": 49408, "max_length": 77, **options},
        position=Spec("learned"),
    )


def clip(image: str, text: tuple[int, int], embed_dim: int, **options: Any) -> Spec:
    """A published CLIP with a ViT: the image tower by its name, channels and heads of the text tower."""
    return Spec("clip", image=model_spec(image, num_classes=0), text=text_tower(*text), embed_dim=embed_dim, **options)


def resnet_tower(width: int, depths: Sequence[int], size: int) -> Spec:
    """A ResNet of bottlenecks with a stem of three convolutions, means for strides, and attention pooling."""
    spec = resnet("bottleneck", [width * 4 * 2**i for i in range(4)], depths, stem=width, image_size=size)
    starts = [Spec("antialiased_bottleneck_start", stride=2 if i else 1) for i in range(4)]
    stages = [stage.set(downsample=start) for stage, start in zip(spec.options["stages"], starts, strict=True)]
    head = Spec("attention_pool", heads=width // 2, grid=(size // 32, size // 32))
    return spec.set(
        embed=Spec("pooled_stem", dim=width, widths=(0.5, 0.5), kernels=3, strides=(2, 1, 1), pool="mean"),
        stages=stages,
        head=head,
    )


def clip_resnet(width: int, depths: Sequence[int], text: tuple[int, int], embed_dim: int, size: int = 224) -> Spec:
    """A published CLIP with a ResNet."""
    image = resnet_tower(width, depths, size)
    return Spec("clip", image=image, text=text_tower(*text), embed_dim=embed_dim, project_image=False)


VARIANTS = {
    # Table 19.
    "clip_resnet50": clip_resnet(64, (3, 4, 6, 3), (512, 8), 1024),
    "clip_resnet101": clip_resnet(64, (3, 4, 23, 3), (512, 8), 512),
    "clip_resnet50x4": clip_resnet(80, (4, 6, 10, 6), (640, 10), 640, 288),
    "clip_resnet50x16": clip_resnet(96, (6, 8, 18, 8), (768, 12), 768, 384),
    "clip_resnet50x64": clip_resnet(128, (3, 15, 36, 10), (1024, 16), 1024, 448),
    # Table 20; the published models use QuickGELU.
    "clip_vit_base_patch32": clip("vit_base_patch32_clip_quickgelu", (512, 8), 512),
    "clip_vit_base_patch16": clip("vit_base_patch16_clip_quickgelu", (512, 8), 512),
    "clip_vit_large_patch14": clip("vit_large_patch14_clip_quickgelu", (768, 12), 768),
    "clip_vit_large_patch14_336": clip("vit_large_patch14_clip_quickgelu", (768, 12), 768, image_size=336),
    # Ours, for images of 16 to 64 pixels and for tests.
    "clip_micro": Spec(
        "clip",
        image=model_spec("vit_micro", num_classes=0, image_size=32).replace("embed.size", 4),
        text=text_tower(64, 4, 2, act="gelu", vocab_size=64, max_length=32),
        embed_dim=64,
        end=2,
        init="fan_in",
    ),
}
