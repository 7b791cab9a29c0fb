"""Segmentation models against the goldens of their references, through `load_reference`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyformer import create_model, load_reference
from golden import Golden


def scores(model, images: Tensor) -> dict[str, Tensor]:
    return {"output": model(images)}


def transformers_segformer(model, images: Tensor) -> dict[str, Tensor]:
    """transformers' names: the map of every stage, and scores before they are enlarged."""
    return {f"stages.{i}": m for i, m in enumerate(model.features(images))} | {"logits": model.scores(images)}


CASES = {  # golden: (name for create_model, outputs under the golden's names)
    "segformer--segformer-b0-ade--transformers": (
        "transformers:nvidia/segformer-b0-finetuned-ade-512-512",
        transformers_segformer,
    ),
    "segformer3d--segformer3d_brats--official": ("official:SegFormer3D", scores),
    "dc_swin--dcswin_tiny--official": ("official:dcswin_tiny", scores),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    ours, outputs = CASES[name]
    Golden(name).hold(create_model(ours), lambda model, inputs: outputs(model, *inputs.values()))


def test_kmax_head_golden():
    """The authors' pixel decoder and k-means decoder, fed with maps in place of a backbone's."""
    golden = Golden("kmax_deeplab--kmax_head_r50_129--official")
    model = create_model("official:kmax_r50", image_size=129).eval()
    assert sum(p.numel() for n, p in model.named_parameters() if not n.startswith("backbone.")) == golden.parameters
    report = load_reference(model, golden.state(), golden.source, partial=True)
    assert not report.unexpected and not report.reshaped, report
    assert all(n.startswith("backbone.") for n in report.missing), report
    maps = list(golden.inputs().values())
    with torch.no_grad():
        pixels, found = model.pixels(maps), model.decode(maps)
    golden.check(
        dict(zip(("os32", "os16", "os8", "panoptic"), (p.movedim(-1, 1) for p in pixels), strict=True))
        | {"pred_logits": found[-1].logits, "pred_masks": found[-1].masks, "pixel_feature": found[-1].vectors}
        | {"aux0_masks": found[0].masks, "aux5_logits": found[5].logits}
    )
