"""Wang et al. 2021, arXiv:2104.12137: densely connected aggregation reads more out of a Swin than a feature pyramid."""

from __future__ import annotations

from anyformer.claims._segmentation import measured
from anyformer.core.spec import Spec
from anyformer.data.images import MEAN, STD
from anyformer.data.segmentation import AERIAL, aerial
from anyformer.lab.claim import Claim, Expect
from anyformer.models import create_model
from anyformer.models.dense.dc_swin import dc_swin
from anyformer.models.vision.swin import swin
from anyformer.tasks.segmentation import SemanticSegmentation, generated

CLAIM = Claim(
    statement="On tiles with thin roads and blocks, DC-Swin's decoder is better than a feature pyramid over the same "
    "backbone.",
    baseline="The same Swin with an FPN decoder that is widened to the same number of parameters, trained alike.",
    expect=(Expect("dcfam_minus_fpn", at_least=1.0, unit="points of mean IoU"),),
    seeds=(1,),
)
SIDE, STEPS, BATCH, RATES = 32, 150, 32, (3e-3, 1e-2)
TILES = (2560, 128, 256)


def arms() -> dict[str, Spec]:
    """Both segmenters; the pyramid's width is the one that comes nearest to DC-Swin's parameters."""
    tiny = swin(8, (1, 1, 1, 1), (1, 2, 4, 4), windows=4, patch=2, ratio=2.0)
    ours = dc_swin(tiny, multiple=16, image_size=SIDE, num_classes=len(AERIAL)).set(drop_path=0.0, init="fan_in")
    wanted = create_model(ours).num_parameters()

    def pyramid(width: int) -> Spec:
        return ours.set(head=Spec("fpn_decoder", dim=width, dropout=0.05))

    widths = range(16, 256, 2)
    nearest = min(widths, key=lambda w: abs(create_model(pyramid(w)).num_parameters() - wanted))
    return {"dcfam": ours, "fpn": pyramid(nearest)}


def measure(seed: int) -> dict[str, float]:
    """Mean IoU of both, in percent, on tiles that were not trained on."""
    task = SemanticSegmentation(generated(aerial, SIDE, seed, TILES), AERIAL, (3, SIDE, SIDE), (MEAN, STD))
    found = {}
    for name, spec in arms().items():
        result = measured(lambda spec=spec: create_model(spec), task, seed, steps=STEPS, rates=RATES, batch_size=BATCH)
        found[f"{name}_miou"] = 100 * result["miou"]
        found[f"{name}_parameters"] = create_model(spec).num_parameters()
    return found | {"dcfam_minus_fpn": found["dcfam_miou"] - found["fpn_miou"]}
