"""Yu et al. 2022, arXiv:2207.04044: centres that cluster pixels find masks better than centres that attend to them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from anyformer.claims._loop import advance
from anyformer.lab.claim import Claim, Expect
from anyformer.layers.attention.cross.cross import CrossAttention
from anyformer.layers.normalization.norms import BatchNorm
from anyformer.models import create_model
from anyformer.models.dense.kmax_deeplab import KMaXDeepLab
from anyformer.models.dense.kmax_pixels import enlarged
from anyformer.tasks.panoptic import PanopticSegmentation, truth_of
from anyformer.tasks.panoptic_quality import mask_iou

CLAIM = Claim(
    statement="On images of two to four coloured shapes, a decoder whose centres take in the pixels assigned to them "
    "finds better masks than one whose centres attend to pixels by a softmax over space.",
    baseline="The same model with softmax cross-attention (four heads, projections of its own) in the decoder layers: "
    "the same weights elsewhere at the start, deep supervision, batches, steps and learning rate.",
    expect=(Expect("kmeans_minus_softmax", at_least=3.0, unit="points of mean IoU of matched masks"),),
    seeds=(1, 2, 3),  # the experiment was laid out on seed 0
)
SIDE, STEPS, BATCH, RATE, DIM = 32, 110, 16, 1e-2, 32


class SoftmaxCrossAttention(nn.Module):
    """The baseline in the place of k-means: its branch ends with a norm, too."""

    def __init__(self, dim: int):
        super().__init__()
        self.attention = CrossAttention(dim, heads=4, bias=False, out_bias=False)
        self.norm = BatchNorm(dim)

    def forward(self, centres: Tensor, memory: Tensor, logits: Tensor) -> Tensor:
        return self.norm(self.attention(centres, memory))


@cache
def scenes(seed: int) -> PanopticSegmentation:
    """1,024 scenes to train on, 256 to test."""
    return PanopticSegmentation(image_size=SIDE, samples=1024, seed=seed)


def segmenter(cross: str, seed: int) -> KMaXDeepLab:
    """Either model, its convolutional encoder and pixel decoder and all that both share from the same weights."""
    torch.manual_seed(seed)
    model = create_model(
        "kmax_micro", mixers=(None, None), decoder_depths=(2, 2), dim=DIM, **scenes(seed).model_options()
    )
    assert isinstance(model, KMaXDeepLab)
    if cross == "softmax":
        for layer in model.decoder:
            layer.cross = SoftmaxCrossAttention(DIM)
    return model


def matched_iou(cross: str, seed: int) -> float:
    """Mean IoU of matched masks on test images after training, in percent."""
    task, model = scenes(seed), segmenter(cross, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        batch = task.sample("train", torch.randint(task.size("train"), (BATCH,), generator=order))
        return model.loss.total(model(batch["images"], layers=True), truth_of(batch))

    advance(model, loss, optimizer, schedule, STEPS)
    model.eval()
    ious = []
    with torch.no_grad():
        for _, batch in task.batches("test", 64, torch.device("cpu")):
            masks = enlarged(model(batch["images"], layers=True)[-1].masks, (SIDE, SIDE))
            ious += [mask_iou(m, s) for m, s in zip(masks, batch["segments"], strict=True)]
    return 100 * float(torch.cat(ious).mean())


def measure(seed: int) -> dict[str, float]:
    """Mean IoU of matched masks of both, and what k-means adds."""
    found = {f"{cross}_iou": matched_iou(cross, seed) for cross in ("kmeans", "softmax")}
    return found | {"kmeans_minus_softmax": found["kmeans_iou"] - found["softmax_iou"]}
